"""When is an engine given up?"""

import asyncio

import pytest

from underlay.live.fleet.probe import Look, Signs, Watch, busy, cache_tokens, gauges, get, strands, work_done

IDLE = {"requests_processing": 0.0, "n_decode_total": 5.0}


def working(decodes):
    return {"requests_processing": 1.0, "n_decode_total": float(decodes)}


def judge(*looks, strikes=3, stall_s=30.0):
    watch = Watch(strikes, stall_s)
    return [watch.judge(look) for look in looks]


def at(second, values, cpu_s=None):
    return Look(float(second), alive=True, values=values, cpu_s=cpu_s)


DEAD = Look(0.0, alive=False, trouble="refused")


def test_silence_counts_only_in_a_row():
    assert judge(DEAD, DEAD, at(1, IDLE), DEAD, DEAD) == [""] * 5
    assert judge(DEAD, DEAD, DEAD)[-1] == "silent: refused"


def test_an_idle_engine_may_stand_still():
    assert judge(*(at(n, IDLE, 1.0) for n in range(100))) == [""] * 100


def test_work_without_progress_is_given_up():
    assert judge(*(at(n, working(7), 1.0) for n in range(6)))[:5] == ["", "", "", "", "no progress"]


def test_work_that_has_just_begun_is_not_blamed_for_the_idle_time_before_it():
    looks = [at(0, IDLE), at(40, working(5)), at(41, working(5)), at(42, working(6))]
    assert judge(*looks, strikes=3, stall_s=30) == [""] * 4


def test_progress_is_life():
    assert set(judge(*(at(n, working(n), 1.0) for n in range(50)))) == {""}


def test_a_large_batch_is_computed_in_silence_but_not_forever():
    looks = [at(0, working(7), 0.0), *(at(n, None, float(n)) for n in range(1, 50))]
    told = judge(*looks, stall_s=30.0)
    assert set(told[:31]) == {""}
    assert "no progress for 30 s" in told


def test_an_engine_elsewhere_that_reads_a_long_prompt_is_given_its_time():
    told = judge(*(at(n, working(7)) for n in range(40)), stall_s=30.0)
    assert set(told[:31]) == {""}
    assert "no progress for 30 s" in told


def test_silence_about_metrics_without_using_the_processor_is_standing_still():
    looks = [at(0, working(7), 1.0), *(at(n, None, 1.0) for n in range(1, 9))]
    assert "no progress" in judge(*looks)


def test_an_engine_without_metrics_is_judged_by_its_answers():
    assert set(judge(*(at(n, {}) for n in range(50)))) == {""}


def test_gauges_of_both_kinds_are_read():
    told = b"# HELP x\nllamacpp:requests_processing 2\nllamacpp:n_decode_total 1.5e+3\n"
    assert gauges(told) == {"requests_processing": 2, "n_decode_total": 1500}
    vllm = b'vllm:num_requests_running{m="a"} 1.0\nvllm:num_requests_running{m="b"} 2.0\nother 5\n'
    assert gauges(vllm) == {"num_requests_running": 3}
    assert busy(gauges(vllm))
    assert work_done(gauges(told)) == 1500


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 abc x\r\n\r\n"])
async def test_what_is_no_http_is_an_error_and_no_crash(reply):
    async def serve(reader, writer):
        await reader.readline()
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with pytest.raises(ValueError):
        await get(server.sockets[0].getsockname(), "/", 2)
    server.close()


def test_what_a_process_does_tells_slow_from_silent():
    before = Signs("S", 1.0)
    assert Signs("S", 1.01).lives_since(before)  # it worked
    assert Signs("R", 1.0).lives_since(before)  # it would, if a processor were free
    assert not Signs("S", 1.0).lives_since(before)
    assert Signs("T", 1.0).stopped


def test_strands_and_cache_are_read_from_the_metrics_of_both_kinds():
    assert strands({"requests_processing": 3.0, "requests_deferred": 2.0}) == (3, 2)
    assert strands({"num_requests_running": 4.0, "num_requests_waiting": 1.0}) == (4, 1)
    assert strands({}) == (0, 0)
    told = b'x 1\nvllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="2000",z="1"} 1.0\n'
    assert cache_tokens(told) == 32_000
    assert cache_tokens(b'vllm:cache_config_info{num_gpu_blocks="None",block_size="16"} 1.0\n') == 0
    assert cache_tokens(b"llamacpp:requests_processing 1\n") == 0
