"""Which test proves which invariant, as far as decisions go. The numbers are those of the design's invariants.

What a driver has to do for one (I4: the slot is free within a second) is proven where the driver is tested; the
table says so in words. A test here sees to it that every test that is named exists.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent

#: Invariant -> what it says, and "file::test" of each that proves it; no test: why there is none here.
PROOFS: dict[str, tuple[str, tuple[str, ...]]] = {
    "I1": (
        "every accepted request ends in exactly one way, none vanish",
        (
            "test_desk_machine.py::i1_every_request_is_somewhere",
            "test_desk_machine.py::i5_i7_i11_i28_one_end_and_one_bill_in_that_order",
            "test_exactly_once.py::test_i1_i7_i9_i11_whatever_is_told_each_request_has_one_bill_and_leaves_nothing",
        ),
    ),
    "I2": (
        "a stream has no gap and no duplicate across replicas",
        ("test_delivery.py::test_an_answer_cut_anywhere_and_resumed_is_the_undisturbed_one",),
    ),
    "I3": ("a clean end only if the engine said so", ("test_desk_machine.py::_close",)),
    "I4": (
        "a caller who leaves frees the slot",
        (
            "test_desk.py::test_a_caller_who_leaves_frees_the_slot_and_pays_for_what_was_made",
            "test_desk_hedges.py::test_i4_a_caller_who_leaves_frees_both_slots",
        ),
    ),
    "I5": (
        "nothing after the end",
        (
            "test_desk_machine.py::_note",
            "test_delivery.py::test_an_engine_that_speaks_after_its_last_word_is_caught",
        ),
    ),
    "I6": (
        "nothing is started after its deadline",
        (
            "test_desk.py::test_a_callers_deadline_holds_while_it_waits",
            "test_desk.py::test_nothing_is_started_whose_time_is_over_when_others_leave_the_line",
            "test_model_desk.py::test_i6_no_prefill_is_begun_that_must_end_after_the_deadline",
            "test_model_desk.py::test_i6_one_whose_time_has_become_too_short_is_sent_away_when_its_turn_comes",
        ),
    ),
    "I7": (
        "what is charged is what was delivered, once per request",
        (
            "test_desk.py::test_a_finished_prompt_is_charged_once_and_then_closed",
            "test_metering.py::test_money_is_exact",
            "test_desk_replays.py::test_i7_a_request_that_was_answered_is_answered_again_and_charged_once",
            "test_exactly_once.py::test_i7_two_last_words_after_a_cut_are_one_bill",
        ),
    ),
    "I8": (
        "never more is spent than the budget and what is leased",
        (
            "test_desk_budgets.py::test_i8_a_thousand_at_once_get_no_more_than_there_is",
            "test_desk_budgets.py::test_i8_what_is_spent_and_set_aside_passes_the_budget_by_less_than_a_margin",
            "test_budgets.py::test_i8_and_i10_never_more_than_the_budget_and_never_below_nothing",
        ),
    ),
    "I9": (
        "what is reserved is what open requests have reserved",
        ("test_desk_machine.py::_all_is_given_back", "test_accounts.py::AccountsMachine"),
    ),
    "I10": (
        "accounts are exact and never below nothing",
        (
            "test_desk_budgets.py::test_i10_costs_are_exact",
            "test_accounts.py::test_i10_what_was_spent_is_the_sum_of_what_was_settled",
        ),
    ),
    "I11": (
        "no retry, move or hedge adds to the bill",
        (
            "test_desk.py::test_the_prompt_is_counted_once_however_many_attempts_it_takes",
            "test_desk_hedges.py::test_i11_the_bill_counts_the_prompt_of_the_winner_alone",
            "test_exactly_once.py::test_i11_a_request_costs_the_same_whichever_copy_answers_it",
        ),
    ),
    "I12": (
        "no tenant's text reaches another; of decisions: they hold none, and keys of requests are each tenant's own",
        ("test_idempotency.py::test_i12_tenants_do_not_share_keys",),
    ),
    "I13": (
        "no two tenants share a cached beginning",
        (
            "test_prefixes.py::test_i13_tenants_models_adapters_and_templates_share_nothing",
            "test_model_desk.py::test_i13_no_two_tenants_share_a_beginning",
        ),
    ),
    "I14": (
        "one tenant's overload hardly changes another's waiting (the figure is bench/desk's)",
        (
            "test_model_desk.py::test_the_free_slots_are_kept_for_others_who_pass_those_they_are_kept_from",
            "test_fairness.py::TestCounters",
        ),
    ),
    "I15": (
        "a revoked key is refused, and its open streams end",
        (
            "test_desk.py::test_a_revoked_key_takes_its_open_streams_with_it_once",
            "test_desk_machine.py::i15_a_revoked_key_has_no_open_stream_that_was_not_cut",
        ),
    ),
    "I16": (
        "leases stay within slots",
        (
            "test_desk_machine.py::i16_leases_never_exceed_slots",
            "test_fleet.py::test_i16_after_any_steps_lists_and_sums_agree_and_all_leases_given_back_leave_nothing",
        ),
    ),
    "I17": ("scaling stays within its bounds: scaling is not decided here yet", ()),
    "I18": (
        "at most half of a pool is sent away",
        (
            "test_recovery.py::test_i18_no_order_of_failures_sends_more_than_half_away",
            "test_desk.py::test_the_last_ready_replica_is_not_sent_away",
        ),
    ),
    "I19": (
        "every line is bounded, in length and in time",
        (
            "test_desk.py::test_the_line_is_bounded_and_beyond_it_the_platform_says_that_it_is_full",
            "test_desk_machine.py::i19_everything_that_waits_waits_for_a_time_we_shall_wake_at",
            "test_model_desk.py::test_i19_i26_who_would_wait_too_long_is_told_at_once_and_when_to_come_back",
        ),
    ),
    "I20": ("one controller acts: there is one desk per process, and no plan yet that two could carry out", ()),
    "I21": ("settings do not go backwards: which ones hold is the driver's to know", ()),
    "I22": ("decisions need no planner: there is none yet", ()),
    "I23": ("a canary's share: no rollout is decided here yet", ()),
    "I24": (
        "after faults heal all is as before within 120 s",
        (
            "test_desk_recovers.py::test_i24_i27_from_every_state_it_returns_by_itself",
            "test_concurrency.py::test_i24_it_gets_all_back_soon_after_the_degradation_ends",
        ),
    ),
    "I25": (
        "fresh starts are at most a share of first attempts",
        (
            "test_recovery.py::test_i25_fresh_starts_stay_within_their_share_of_any_ten_seconds",
            "test_hedging.py::test_i25_copies_never_exceed_their_share_and_none_has_two",
            "test_model_desk.py::test_i25_fresh_starts_beyond_the_budget_wait_for_the_next_seconds",
        ),
    ),
    "I26": (
        "who is shed is told at once, and when to come back",
        ("test_model_desk.py::test_i19_i26_who_would_wait_too_long_is_told_at_once_and_when_to_come_back",),
    ),
    "I27": (
        "no state holds the platform down by itself",
        (
            "test_desk_recovers.py::test_i24_i27_from_every_state_it_returns_by_itself",
            "test_concurrency.py::test_i27_from_any_state_full_load_at_a_steady_pace_ends_without_a_limit",
        ),
    ),
    "I28": (
        "every refusal and error has one reason",
        (
            "test_desk.py::test_a_refusal_has_one_reason_code_and_leaves_nothing_behind",
            "test_desk_machine.py::i5_i7_i11_i28_one_end_and_one_bill_in_that_order",
        ),
    ),
    "I29": ("alerts fire: nothing is alerted on here", ()),
}


def test_every_invariant_is_in_the_table():
    assert list(PROOFS) == [f"I{number}" for number in range(1, 30)]


@pytest.mark.parametrize("name", [proof for _, proofs in PROOFS.values() for proof in proofs])
def test_a_proof_that_is_named_exists(name):
    file, _, test = name.partition("::")
    text = (HERE / file).read_text(encoding="utf-8")
    assert (
        any(f"{word} {test}{end}" in text for word, end in (("def", "("), ("class", "("))) or f"\n{test} =" in text
    )
