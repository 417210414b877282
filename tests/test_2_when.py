"""Every way to write a moment, beside Python's own datetime as the model."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lighthousefs.limits import NAME_BYTES_MAX, SEQ_MAX, TIME_MAX_NS, TIME_MIN_NS
from lighthousefs.views.when import Ago, AtSeq, Instant, Now, Tag, forms, instant_of, parse

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REPRESENTABLE = st.datetimes(min_value=datetime(1677, 9, 23), max_value=datetime(2262, 4, 10), timezones=st.just(UTC))


def model_ns(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def ns(*fields: int) -> int:
    return model_ns(datetime(*fields, tzinfo=UTC))  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-23T04:22:32.5Z", ns(2026, 11, 23, 4, 22, 32, 500_000)),
        ("2026-11-23T04:22:32Z", ns(2026, 11, 23, 4, 22, 32)),
        ("2026-11-23T04:22:32", ns(2026, 11, 23, 4, 22, 32)),
        ("2026-11-23T04:22", ns(2026, 11, 23, 4, 22)),
        ("2026-11-23T04:22Z", ns(2026, 11, 23, 4, 22)),
        ("2026-11-23 04:22:32+02:00", ns(2026, 11, 23, 2, 22, 32)),
        ("2026-11-23t04:22:32z", ns(2026, 11, 23, 4, 22, 32)),
        ("2026-11-23T04:22:32-00:00", ns(2026, 11, 23, 4, 22, 32)),
        ("2026-11-23", ns(2026, 11, 23)),
        ("20261123", ns(2026, 11, 23)),
        ("20261123T042232Z", ns(2026, 11, 23, 4, 22, 32)),
        ("20261123T0422", ns(2026, 11, 23, 4, 22)),
        ("20261123T042232.25-0130", ns(2026, 11, 23, 5, 52, 32, 250_000)),
        ("2024-02-29", ns(2024, 2, 29)),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("2262-04-11T23:47:16.854775807Z", TIME_MAX_NS),
        ("1677-09-21T00:12:43.145224192Z", TIME_MIN_NS),
    ],
)
def test_an_instant_in_each_of_its_forms(written: str, meant: int) -> None:
    assert parse(written) == Instant(meant)
    assert parse(written.encode()) == Instant(meant)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "2026",
        "2026-11",
        "2026-13-01",
        "2026-02-29",
        "2026-11-31",
        "2026-00-10",
        "2026-11-00",
        "0000-01-01",
        "2026-11-23T",
        "2026-11-23T04",
        "2026-11-23T24:00",
        "2026-11-23T04:60",
        "2026-12-31T23:59:60Z",
        "2026-11-23T04:22:32.Z",
        "2026-11-23T04:22:32.1234567890Z",
        "2026-11-23T04:22:32,5Z",
        "2026-11-23T04:22:32+0200",
        "2026-11-23T04:22:32+24:00",
        "2026-11-23T04:22:32+02:60",
        "2026-11-23T04:22:32+02",
        "20261123T042232+02:00",
        "2026-1123",
        "202611-23",
        "2026-11-23T042232Z",
        "2026-11-23Z",
        "2026-11-23  04:22",
        " 2026-11-23",
        "2026-11-23\n",
        "-2026-11-23",
        "+2026-11-23",
        "2026-11-2٣",
        "2262-04-11T23:47:16.854775808Z",
        "1677-09-21T00:12:43.145224191Z",
        "9999-12-31",
        "0001-01-01T00:00+01:00",
        "9999-12-31T23:59-23:59",
    ],
)
def test_what_is_no_instant(written: str) -> None:
    assert parse(written) is None
    assert parse(written.encode()) is None


@given(
    moment=REPRESENTABLE,
    minutes=st.integers(-23 * 60 - 59, 23 * 60 + 59),
    joint=st.sampled_from("Tt "),
    precision=st.sampled_from(["auto", "minutes", "seconds", "milliseconds", "microseconds"]),
    basic=st.booleans(),
)
def test_an_instant_means_what_datetime_reads(
    moment: datetime, minutes: int, joint: str, precision: str, basic: bool
) -> None:
    written = moment.astimezone(timezone(timedelta(minutes=minutes))).isoformat(joint, precision)
    meant = model_ns(datetime.fromisoformat(written))
    if basic:
        date, time = written[:10], written[11:]
        written = date.replace("-", "") + joint + time.replace(":", "")
    assert parse(written) == Instant(meant)
    if minutes == 0:
        assert parse(re.sub(r"\+00:?00\Z", "Z", written)) == Instant(meant)
        assert parse(re.sub(r"\+00:?00\Z", "", written)) == Instant(meant)


@given(moment=REPRESENTABLE, nanoseconds=st.integers(0, 999_999_999), digits=st.integers(1, 9))
def test_a_fraction_is_read_to_the_nanosecond(moment: datetime, nanoseconds: int, digits: int) -> None:
    fraction = f"{nanoseconds:09d}"[:digits]
    whole = moment.replace(microsecond=0)
    written = f"{whole:%Y-%m-%dT%H:%M:%S}.{fraction}Z"
    assert parse(written) == Instant(model_ns(whole) + int(fraction) * 10 ** (9 - digits))


TIME = r"[0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,6})?)?(Z|[+-][0-2][0-9]:[0-5][0-9])?"


@given(st.from_regex(rf"\A(1[6-9]|2[0-3])[0-9]{{2}}-[01][0-9]-[0-3][0-9](T{TIME})?\Z"))
def test_dates_that_may_not_exist_are_read_exactly_when_datetime_reads_them(written: str) -> None:
    try:
        read = datetime.fromisoformat(written)
        meant = model_ns(read if read.tzinfo else read.replace(tzinfo=UTC))
        expected = Instant(meant) if TIME_MIN_NS <= meant <= TIME_MAX_NS else None
    except ValueError:
        expected = None
    assert parse(written) == expected


@given(st.integers(1, SEQ_MAX))
@example(1)
@example(SEQ_MAX)
def test_a_seq(number: int) -> None:
    assert parse(f"@{number}") == AtSeq(number)  # type: ignore[arg-type]
    assert parse(f"@{number}".encode()) == parse(f"@{number}")
    for wrong in (
        f"@0{number}",
        f"@+{number}",
        f"@-{number}",
        f"@{number}\n",
        f"@ {number}",
        f"@{number} ",
        f"@@{number}",
    ):
        assert parse(wrong) is None


@pytest.mark.parametrize("written", ["@", "@0", "421", f"@{SEQ_MAX + 1}", "@" + "9" * 5000, "@٤٢١", "@1_0", "@0x1"])
def test_what_is_no_seq(written: str) -> None:
    assert parse(written) is None


@given(number=st.integers(0, 10**12 - 1), unit=st.sampled_from("smhdw"))
@example(0, "s")
def test_relative_times(number: int, unit: str) -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[unit]
    assert parse(f"{number}{unit}-ago") == Ago(number * seconds * 10**9)


@pytest.mark.parametrize(
    "written",
    [
        "s-ago",
        "-1s-ago",
        "+1s-ago",
        "01s-ago",
        "1 s-ago",
        "1.5h-ago",
        "1s ago",
        "1s-ago\n",
        "1S-ago",
        "1y-ago",
        "1ago",
        "1000000000000s-ago",
        "٣s-ago",
        "Now",
        "now\n",
        "tomorrow",
        "Yesterday",
    ],
)
def test_what_is_no_relative_time(written: str) -> None:
    assert parse(written) is None


def test_more_digits_than_int_reads_are_no_moment() -> None:
    assert parse("9" * 5000 + "s-ago") is None


def test_words() -> None:
    assert parse("now") == Now()
    assert parse("yesterday") == parse("1d-ago") == Ago(86_400 * 10**9)


def test_a_tag_is_any_file_name() -> None:
    assert parse("tag:v1") == Tag("v1")
    assert parse("tag:now") == Tag("now")
    assert parse("tag:a b:c") == Tag("a b:c")
    assert parse(b"tag:\xff") == Tag("\udcff")
    assert parse("tag:" + "é" * (NAME_BYTES_MAX // 2)) == Tag("é" * (NAME_BYTES_MAX // 2))
    for no_name in ("", ".", "..", "a/b", "a\0", "x" * (NAME_BYTES_MAX + 1), "é" * NAME_BYTES_MAX, "\ud800"):
        assert parse("tag:" + no_name) is None


@given(st.binary(max_size=40))
def test_any_name_has_an_answer_and_text_and_bytes_agree(name: bytes) -> None:
    assert parse(name) == parse(name.decode(errors="surrogateescape"))


@given(now=st.integers(TIME_MIN_NS, TIME_MAX_NS), then=st.integers(TIME_MIN_NS, TIME_MAX_NS))
@example(now=5, then=5)
@example(now=5, then=6)
def test_an_instant_later_than_now_is_refused(now: int, then: int) -> None:
    assert instant_of(Instant(then), now) == (then if then <= now else None)


@given(now=st.integers(TIME_MIN_NS, TIME_MAX_NS), ago=st.integers(0, 10**12 * 604_800 * 10**9))
def test_a_relative_time_counts_back_from_now_and_stays_in_64_bits(now: int, ago: int) -> None:
    then = instant_of(Ago(ago), now)
    assert then is not None
    assert TIME_MIN_NS <= then <= now
    assert then == now - ago or (then == TIME_MIN_NS and now - ago < TIME_MIN_NS)


def test_now_is_now() -> None:
    assert instant_of(Now(), 1234) == 1234


def test_the_forms_that_are_offered_can_be_read() -> None:
    offered = [line.split()[0] for line in forms()]
    kinds = [type(parse(form)) for form in offered]
    assert kinds == [AtSeq, Instant, Ago, Now, Tag]
    others = re.findall(r"\b20\d{6}T\d+Z|\b20\d\d-[-T:0-9]+", " ".join(line.split(maxsplit=1)[1] for line in forms()))
    assert len(others) == 3
    assert all(isinstance(parse(form), Instant) for form in others)
