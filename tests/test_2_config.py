"""Settings of a mount: what a file may say, and what is said of one that is wrong."""

from __future__ import annotations

import contextlib
import grp
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lighthousefs.answers.noise import Noise
from lighthousefs.config import Bounds, Config, defaults, described, in_force, load
from lighthousefs.errors import Unusable


def loaded(folder: Path, text: str | bytes) -> Config:
    file = folder / "c.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(file)


def test_nothing_given_is_the_past_as_it_was(tmp_path: Path) -> None:
    assert loaded(tmp_path, "# nothing\n") == Config() == Config(past="as-it-was", auditors=None)


def test_a_group_is_given_by_name_or_number(tmp_path: Path) -> None:
    group = grp.getgrall()[-1]
    assert loaded(tmp_path, f'past = "owner"\nauditors = "{group.gr_name}"\n') == Config(
        past="owner", auditors=group.gr_gid
    )
    assert loaded(tmp_path, "auditors = 4000000000\n").auditors == 4_000_000_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('pats = "owner"', "there is no setting pats, did you mean past?"),
        ('past = "owner"\nauditor = 7', "there is no setting auditor, did you mean auditors?"),
        ("zzz = 1", "there is no setting zzz"),
        ("[past]\nowner = true", "past: Input should be 'as-it-was' or 'owner', not {'owner': True}"),
        ('past = "Owner"', "past: Input should be 'as-it-was' or 'owner', not 'Owner'"),
        ("past = true", "past: Input should be 'as-it-was' or 'owner', not True"),
        ('auditors = "no-such-group"', "auditors: there is no group 'no-such-group'"),
        ('auditors = "a\\u0000b"', "auditors: there is no group"),
        ("auditors = true", "auditors: Input should be a valid integer, not True"),
        ("auditors = 1.0", "auditors: Input should be a valid integer, not 1.0"),
        ("auditors = -1", "auditors: Input should be greater than or equal to 0, not -1"),
        ("auditors = 4294967295", "auditors: Input should be less than or equal to 4294967294"),
        ("bounds = 3", "bounds: it is a table of settings, [bounds], not 3"),
        ("[bounds]\nsync_second = 2", "there is no setting bounds.sync_second, did you mean sync_seconds?"),
        (
            "[bounds]\nsync_seconds = 0.01",
            "bounds.sync_seconds: Input should be greater than or equal to 0.05, not 0.01",
        ),
        ("[bounds]\nsync_seconds = 61", "bounds.sync_seconds: Input should be less than or equal to 60, not 61"),
        ("[bounds]\nsync_seconds = inf", "bounds.sync_seconds: Input should be less than or equal to 60, not inf"),
        ("[bounds]\nsync_seconds = nan", "bounds.sync_seconds: Input should be"),
        ("[bounds]\nsync_seconds = true", "bounds.sync_seconds: Input should be a valid number, not True"),
        ("[bounds]\nquestions_max = 513", "bounds.questions_max: Input should be less than or equal to 512"),
        ("[bounds]\nquestions_max = 24", "questions_max must grow, not 8, 24, 24"),
        ("[bounds]\nquestions_of_one_max = 24", "questions_max must grow, not 24, 24, 512"),
        (
            "[bounds]\nquestions_of_one_max = 0",
            "bounds.questions_of_one_max: Input should be greater than or equal to 1",
        ),
        ('a = 1\nb = 2\nc = 3\nd = 4\npast = ""', "; and 2 more"),
        ("past = owner", "is no TOML: Invalid value (at line 1, column 8)"),
        ('past = "owner"\npast = "owner"', "is no TOML: Cannot overwrite a value"),
        (b"past = \xff", "is no TOML"),
        ("a = " + "[" * 100_000, "is no TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(Unusable) as refused:
        loaded(tmp_path, text)
    assert words in str(refused.value)
    assert refused.value.status == 2
    assert refused.value.hint
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "words"), [("none", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(Unusable, match=words) as refused:
        load(tmp_path / name)
    assert refused.value.status == 2


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: f'past = "{text}"'.encode(errors="surrogatepass"))
)
def test_any_bytes_are_settings_or_refused_in_words(tmp_path: Path, text: bytes) -> None:
    with contextlib.suppress(Unusable):
        assert isinstance(loaded(tmp_path, text), Config)


VALUES = [
    *('"x"', '""', "1", "0", "-1", "1e400", "nan", "inf", "true", "[]", "[1]", '["a", "*", "["]', "{}", "{ a = 1 }"),
    *("1979-05-27", "07:32:00", '"\\u0000"', '["\\u0000/"]', "9" * 30, '["' + "[" * 300 + '"]', '"as-it-was"'),
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*Config.model_fields, *(f"bounds.{name}" for name in Bounds.model_fields), "b.c"]),
            st.sampled_from(VALUES),
        ),
        max_size=4,
    )
)
def test_any_value_of_a_setting_is_taken_or_refused_in_words(tmp_path: Path, given: list[tuple[str, str]]) -> None:
    text = "\n".join(f"{name} = {value}" for name, value in given)
    config = None
    with contextlib.suppress(Unusable):
        config = loaded(tmp_path, text.encode())
    if config is None:
        return
    assert Noise(config.noise).is_noise(b"a/b") in (True, False)
    assert loaded(tmp_path, in_force(config, None)) == config


def test_the_file_of_all_settings_is_one_that_changes_none(tmp_path: Path) -> None:
    text = defaults()
    assert loaded(tmp_path, text) == Config()
    # One that is nothing by default stands there as an example, good but for the mark before it.
    group = Config.model_fields["auditors"].examples
    assert group is not None
    example = next(line for line in text.splitlines() if line.startswith("# auditors = "))
    assert loaded(tmp_path, example.removeprefix("# ")).auditors == grp.getgrnam(group[0]).gr_gid


def test_every_setting_says_what_it_is_for() -> None:
    text = " ".join(line.removeprefix("# ") for line in defaults().splitlines())
    names = [name for name, _default, _description in described()]
    assert {"past", "auditors", "bounds.sync_seconds"} <= set(names)
    for name, _default, description in described():
        assert description.endswith("."), name
        assert description in text, name


SETTINGS = st.builds(
    Config,
    past=st.sampled_from(["as-it-was", "owner"]),
    auditors=st.none() | st.integers(0, (1 << 32) - 2),
    bounds=st.builds(
        Bounds,
        sync_seconds=st.floats(0.05, 60),
        questions_max=st.integers(30, 512),
        questions_of_others_max=st.integers(10, 29),
        questions_of_one_max=st.integers(1, 9),
    ),
)
NAMES = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=SETTINGS, name=NAMES)
def test_what_is_in_force_reads_back_as_it_is_wherever_it_came_from(tmp_path: Path, config: Config, name: str) -> None:
    text = in_force(config, Path("/etc") / name)
    assert loaded(tmp_path, text) == config
    assert loaded(tmp_path, in_force(config, None)) == config
    # What is shown on a terminal is the same file.
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert tomllib.loads(text)["past"] == config.past
