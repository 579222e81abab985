"""The settings file: what it takes, what wins, and the exact words of what it refuses."""

import json
import textwrap
from pathlib import Path

import pytest
import yaml

from underlay.live.settings import Settings
from underlay.live.settings_file import NOT_SETTINGS, SettingsError, load, schema, variable


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def written(text, name="underlay.yaml"):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return name


def refused(text, environ=None, overrides=None):
    with pytest.raises(SettingsError) as caught:
        load(written(text), environ or {}, overrides or {})
    return caught.value.render()


def golden(text):
    return textwrap.dedent(text).strip("\n")


def test_without_anything_the_defaults_hold(here):
    loaded = load(None, {}, {})
    assert loaded.path is None
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.settings == Settings(data_dir=here / "home/.local/share/underlay")


def test_an_unknown_key_is_shown_with_caret_and_nearest_word():
    assert refused("""\
        public:
          prot: 9000
        """) == golden("""
        underlay.yaml:2:3: public.prot: unknown key; did you mean 'port'?
              prot: 9000
              ^^^^""")


def test_an_unknown_key_like_no_other_lists_the_known_ones():
    assert refused("console: {zzz: 1}") == golden("""
        underlay.yaml:1:11: console.zzz: unknown key; known here: host, port
            console: {zzz: 1}
                      ^^^""")


def test_every_finding_comes_at_once_in_the_order_of_lines():
    assert refused(
        """\
        public:
          port: 08
          host: 5
        models:
          - name: a
            engine: {replicas: 0, kind: vllm}
            price: {prompt_usd_per_mtok: -1}
        models: []
        log:
          level: on
        desk: 5
        """
    ) == golden("""
        underlay.yaml:2:9: public.port: expected a whole number, not the text '08'
              port: 08
                    ^^
        underlay.yaml:3:9: public.host: expected text, not 5
              host: 5
                    ^
        underlay.yaml:6:24: models.0.engine.replicas: must be 1 or more, not 0
                engine: {replicas: 0, kind: vllm}
                                   ^
        underlay.yaml:6:33: models.0.engine.kind: must be 'llamacpp' or 'openai', not the text 'vllm'
                engine: {replicas: 0, kind: vllm}
                                            ^^^^
        underlay.yaml:7:34: models.0.price.prompt_usd_per_mtok: must be 0 or more, not -1
                price: {prompt_usd_per_mtok: -1}
                                             ^^
        underlay.yaml:8:1: models: given twice (first at underlay.yaml:4:1)
            models: []
            ^^^^^^
        underlay.yaml:10:10: log.level: must be 'debug', 'info', 'warning' or 'error', not the text 'on'
              level: on
                     ^^
        underlay.yaml:11:7: desk: expected a section of 'key: value' lines, not 5
            desk: 5
                  ^""")


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "off", "True", "08", "0o17", "0x1F", "1_000", "12:30", ".inf", "1e999"]
)
def test_what_other_readers_turn_into_something_else_stays_text(word):
    assert load(written(f"public: {{host: {word}}}"), {}, {}).settings.public.host == word
    assert f"expected a whole number, not the text '{word}'" in refused(f"public: {{port: {word}}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("public: {port: true}", "public.port: expected a whole number, not true"),
        ("public: {port: '8080'}", "public.port: expected a whole number, not the text '8080'"),
        ("public: {port: 80.5}", "public.port: expected a whole number, not 80.5"),
        ("public: {port: 65536}", "public.port: must be 65535 or less, not 65536"),
        ("public: {idle_timeout_s: 0}", "public.idle_timeout_s: must be more than 0.0, not 0"),
        ("public: 8080", "public: expected a section of 'key: value' lines, not 8080"),
        ("models: {}", "models: expected a list, not a section"),
        ("models: []", "models: must not be empty"),
        ("models: [{name: ''}]", "models.0.name: must not be empty"),
        ("models: [{engine: {embeddings: yes}}]", "expected true or false, not the text 'yes'"),
        ("a: &x 1\nb: *x", "underlay.yaml:1:4: anchors and aliases are not used here"),
        ("a: !!python/object:os.system x", "underlay.yaml:1:4: tags are not used here"),
        ("- public", "underlay.yaml:1:1: expected settings as 'key: value' lines"),
        ("[a]: 1", "underlay.yaml:1:1: a key must be one word"),
        ("1: 2", "underlay.yaml:1:1: 1: unknown key"),
        ("public:\n\tport: 1", "underlay.yaml:2:1: found character '\\t'"),
        ("public: {", "underlay.yaml:1:10: expected the node content"),
        ("a: 1\n---\nb: 2", "underlay.yaml:2:1: but found another document"),
        ("a: " + "[" * 5000, "underlay.yaml"),
        ("public: {port: " + "9" * 5000 + "}", "public.port: expected a whole number, not the text '999"),
        ("a: \x00", "underlay.yaml"),
    ],
)
def test_refusals(text, message):
    assert message in refused(text)


def test_a_file_that_cannot_be_read_is_said_plainly(here):
    for content, message in ((None, "nowhere.yaml: cannot be read: No such file"), (b"a: \xff", "not UTF-8")):
        path = here / "nowhere.yaml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SettingsError, match=message):
            load(path, {}, {})


@pytest.mark.parametrize(
    ("redfish", "message"),
    [
        ("url: 'http://10.0.0.9'", "the password would cross the network in the clear"),
        ("url: 10.0.0.9", "write https://ADDRESS"),
        ("url: 'https://root:secret@10.0.0.9'", "write https://ADDRESS"),
        ("url: 'https://'", "write https://ADDRESS"),
        ("url: 'https://[10'", "meters.redfish.url"),
        ("url: 'https://bmc:99999'", "meters.redfish.url"),
        ("url: 'ftp://bmc', insecure: true", "write https://ADDRESS"),
    ],
)
def test_a_controller_is_asked_over_https_and_its_user_is_no_part_of_the_address(redfish, message):
    said = refused(f"meters: {{redfish: {{{redfish}}}}}")
    assert message in said


@pytest.mark.parametrize(
    ("meters", "message"),
    [
        ("ipmi: {mode: auto, host: bmc}", "a controller at an address wants a user and a password_file"),
        ("ipmi: {mode: auto, password_file: p}", "this machine's own controller asks for none"),
        ("ipmi: {mode: auto}, redfish: {url: 'https://bmc'}", "redfish.url and ipmi ask for the same power"),
    ],
)
def test_a_controller_over_ipmi_is_told_wholly_and_is_the_only_one(meters, message):
    assert message in refused(f"meters: {{{meters}}}")


def test_meters_are_found_by_themselves_but_for_the_controller():
    meters = load(
        written("meters: {rapl: off, redfish: {url: 'https://bmc', password_file: p}}"), {}, {}
    ).settings.meters
    assert (meters.every_ms, meters.nvml, meters.rapl) == (250, "auto", "off")
    assert meters.redfish.password_file.is_absolute()
    assert Settings().meters.redfish.url is None
    assert Settings().meters.ipmi.mode == "off"
    assert "meters.every_ms: must be 50 or more, not 10" in refused("meters: {every_ms: 10}")


@pytest.mark.parametrize("text", ["", "# nothing\n", "public:\n", "\ufeffpublic:\n"])
def test_an_empty_file_and_an_empty_section_are_fine(text):
    assert load(written(text), {}, {}).settings.public == Settings().public


def test_flags_win_over_environment_over_file_over_defaults():
    name = written("""\
        public: {host: 1.1.1.1, port: 1000, header_bytes_max: 1}
        models:
          - name: 'no'
            price: {prompt_usd_per_mtok: 0.1}
        """)
    environ = {
        "UNDERLAY_PUBLIC__PORT": "2000",
        "UNDERLAY_PUBLIC__HOST": "2.2.2.2",
        "UNDERLAY_MODELS__0__ENGINE__REPLICAS": "7",
    }
    loaded = load(name, environ, {"public.port": 3000, "console.port": None})
    public = loaded.settings.public
    assert (public.host, public.port, public.header_bytes_max) == ("2.2.2.2", 3000, 1)
    assert loaded.settings.models[0].engine.replicas == 7
    assert str(loaded.settings.models[0].price.prompt_usd_per_mtok) == "0.1"
    assert {setting: origin for setting, origin in loaded.origins.items() if origin != "default"} == {
        "public.host": "env UNDERLAY_PUBLIC__HOST",
        "public.port": "flag",
        "public.header_bytes_max": "underlay.yaml:1:55",
        "models.0.name": "underlay.yaml:3:11",
        "models.0.engine.replicas": "env UNDERLAY_MODELS__0__ENGINE__REPLICAS",
        "models.0.price.prompt_usd_per_mtok": "underlay.yaml:4:34",
    }


def test_the_file_is_looked_for_where_people_expect_it(here):
    own = Path(written("public: {port: 4}", "home/.config/underlay/underlay.yaml")).resolve()
    xdg = written("public: {port: 3}", "xdg/underlay/underlay.yaml")
    assert load(None, {}, {}).path == own
    assert load(None, {"XDG_CONFIG_HOME": "xdg"}, {}).path == Path(xdg)
    assert load(None, {}, {}).settings.public.port == 4
    written("public: {port: 2}")
    assert load(None, {}, {}).settings.public.port == 2
    other = written("public: {port: 1}", "other.yaml")
    assert load(None, {"UNDERLAY_CONFIG": other}, {}).settings.public.port == 1
    assert load("underlay.yaml", {"UNDERLAY_CONFIG": other}, {}).settings.public.port == 2


def test_paths_mean_what_their_writer_sees(here):
    name = written("data_dir: here\nmodels: [{engine: {path: ~/a.gguf}}]", "sub/underlay.yaml")
    loaded = load(name, {}, {})
    assert loaded.settings.data_dir == here / "sub/here"
    assert loaded.settings.models[0].engine.path == here / "home/a.gguf"
    loaded = load(name, {"UNDERLAY_DATA_DIR": "~/b"}, {"models.0.engine.path": "c.gguf"})
    assert loaded.settings.data_dir == here / "home/b"
    assert loaded.settings.models[0].engine.path == here / "c.gguf"


def test_variables_are_read_by_the_kind_of_their_setting():
    environ = {
        "UNDERLAY_MODELS__0__NAME": "123",
        "UNDERLAY_MODELS__0__ENGINE__PATH": "",
        "UNDERLAY_MODELS__0__ENGINE__EMBEDDINGS": "true",
        "UNDERLAY_MODELS__0__ENGINE__ADDRESSES": "[http://a, http://b]",
        "UNDERLAY_MODELS__1__NAME": "second",
        "UNDERLAY_LIMITS": "{concurrent: 3}",
    }
    loaded = load(None, environ, {})
    first, second = loaded.settings.models
    assert (first.name, first.engine.path, first.engine.embeddings) == ("123", None, True)
    assert first.engine.addresses == ("http://a", "http://b")
    assert second.name == "second"
    assert loaded.settings.limits.concurrent == 3
    assert loaded.origins["limits.concurrent"] == "env UNDERLAY_LIMITS"


def test_a_wrong_variable_is_named():
    environ = {"UNDERLAY_PUBLIC__PORT": "many", "UNDERLAY_MODELS__3__NAME": "x"}
    assert refused("", environ) == golden("""
        env UNDERLAY_MODELS__3__NAME: models.3.name: there is no item 0 before it
            x
            ^
        env UNDERLAY_PUBLIC__PORT: public.port: expected a whole number, not the text 'many'
            many
            ^^^^""")
    assert "flag: public.port: must be 65535 or less" in refused("", {}, {"public.port": 70000})


def test_an_unknown_variable_is_a_warning_unless_it_means_something_else():
    environ = dict.fromkeys(NOT_SETTINGS - {"UNDERLAY_CONFIG"}, "x") | {"UNDERLAY_PUBLC__PORT": "1", "PATH": "/bin"}
    assert load(None, environ, {}).warnings == [
        "UNDERLAY_PUBLC__PORT: no such setting; did you mean 'UNDERLAY_PUBLIC__PORT'?"
    ]


def test_every_setting_has_a_variable_that_reaches_it():
    def leaves(value, steps=()):
        if isinstance(value, dict):
            return [leaf for key in value for leaf in leaves(value[key], (*steps, key))]
        if value and isinstance(value, list):
            return [leaf for i, item in enumerate(value) for leaf in leaves(item, (*steps, str(i)))]
        return [(".".join(steps), value)]

    defaults = leaves(json.loads(Settings().model_dump_json()))
    environ = {
        variable(setting): value if isinstance(value, str) else json.dumps(value) for setting, value in defaults
    }
    loaded = load(None, environ, {})
    assert loaded.warnings == []
    assert loaded.origins == {setting: f"env {variable(setting)}" for setting, _ in defaults}
    assert loaded.settings.models == Settings().models
    assert variable("models.0.engine.path") == "UNDERLAY_MODELS__0__ENGINE__PATH"


def test_the_defaults_written_out_are_a_valid_file():
    text = yaml.safe_dump(json.loads(Settings().model_dump_json()))
    assert load(written(text), {}, {}).settings.models == Settings().models


def test_the_schema_forbids_what_the_loader_forbids():
    found = schema()
    assert found["additionalProperties"] is False
    assert found["properties"]["models"]["minItems"] == 1
    assert "port; 0 takes a free one" in json.dumps(found)
