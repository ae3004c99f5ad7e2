"""What a person reads of a report: whole texts, and what keeps them readable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.story import Line, Story
from pytest_ssot_isolation.model.verdict import Finding, Verdict
from pytest_ssot_isolation.report import terminal
from pytest_ssot_isolation.report.columns import table
from pytest_ssot_isolation.report.lookalikes import difference

IN_TURN = Story(
    users=("alice (user 'Mira')", "bob (user 'mira')"),
    ids=("Mira", "mira"),
    lines=(
        Line(number=0, user=0, call="write('notes', <canary alice#0>)", answer="{'id': 1}", began=1, ended=2),
        Line(
            number=1,
            user=1,
            call="read('notes')",
            answer="<canary alice#0>",
            saw="saw <canary alice#0>",
            began=3,
            ended=4,
        ),
    ),
)
AT_ONCE = Story(
    users=("alice (user 'a')", "bob (user 'b')"),
    lines=(
        Line(number=0, user=0, call="whoami()", answer="'b'", saw="differs", began=1, ended=4, overlaps=(1,)),
        Line(
            number=1,
            user=1,
            call="sign_in()",
            answer="204",
            began=2,
            ended=3,
            overlaps=(0,),
            fault="cancelled before step 2",
        ),
    ),
)
SEEN = Finding(
    oracle="canary",
    victim="alice",
    offender="bob",
    operation="read",
    explanation="it shows a canary of alice, and bob may not see what is alice's",
    replay="v1.a0b0",
    shrunk="from 41 calls to 2 in 26 runs; the same in 5 of 5 replays",
    story=IN_TURN,
)
LEAK = Report(
    verdict=Verdict.LEAK,
    findings=(SEEN,),
    subject="Notes",
    test="tests/test_notes.py::test_isolated",
    examples=3,
    calls=1041,
    seconds=2.04,
    controls=12,
    seed=7,
    oracles=("canary", "integrity"),
)


def test_a_leak_is_a_short_story_with_a_column_for_each_user() -> None:
    assert (
        terminal.render([LEAK])
        == """\
LEAK  canary  bob saw what alice wrote, in read

     alice                                        bob
     -----                                        -----
  0  write('notes', <canary alice#0>)
     -> {'id': 1}
> 1                                               read('notes') -> <canary alice#0>
                                                  ^^ saw <canary alice#0>

  where    the answer of read
  users    alice has the user id 'Mira', bob has 'mira': they differ in upper and lower case
           only
  why      step 1 shows <canary alice#0>, a secret made up for alice, who brought it in at step
           0; bob may not see what is alice's
  shrunk   from 41 calls to 2 in 26 runs; the same in 5 of 5 replays
  key      canary:read:result
  replay   pytest tests/test_notes.py::test_isolated --ssot-replay=v1.a0b0

  checked  Notes: 3 programs, 1,041 calls, 2.0 s; 12 owners saw an own secret again; judged by
           canary, integrity; seed 7"""
    )


def test_calls_that_overlap_begin_and_end_in_rows_of_their_own() -> None:
    finding = replace(
        SEEN,
        oracle="noninterference",
        operation="whoami",
        path="body.name",
        explanation="what alice sees depends on others: beside others 'b', alone 'a'",
        preemptions=2,
        fault="cancelled before step 2",
        story=AT_ONCE,
    )

    assert (
        terminal.render([replace(LEAK, findings=(finding,), controls=0)])
        == """\
LEAK  noninterference  what alice sees depends on what bob does, in whoami

     alice                                        bob
     -----                                        -----
  0  whoami() begins
  1  |                                            sign_in() begins
  1  |                                            sign_in ends -> 204
     |                                            !! cancelled before step 2
> 0  whoami ends -> 'b'
     ^^ differs

  where    the answer of whoami, at body.name
  why      what alice sees depends on others: beside others 'b', alone 'a'
  needs    2 switches between users in the middle of calls; a fault: a call cancelled before
           step 2
  shrunk   from 41 calls to 2 in 26 runs; the same in 5 of 5 replays
  key      noninterference:whoami:result:body.name
  replay   pytest tests/test_notes.py::test_isolated --ssot-replay=v1.a0b0

  checked  Notes: 3 programs, 1,041 calls, 2.0 s; judged by canary, integrity; seed 7"""
    )


def test_a_clean_report_says_what_ran_and_what_was_noted() -> None:
    report = replace(LEAK, verdict=Verdict.CLEAN, findings=(), notes=("the budget of 2 s ended early",))

    assert (
        terminal.render([report])
        == """\
CLEAN  Notes: 3 programs, 1,041 calls, 2.0 s; 12 owners saw an own secret again; judged by
       canary, integrity; seed 7

  note     the budget of 2 s ended early"""
    )


def test_an_inconclusive_report_says_why_and_what_to_do() -> None:
    report = replace(
        LEAK,
        verdict=Verdict.INCONCLUSIVE,
        findings=(),
        examples=1,
        calls=1,
        controls=1,
        reasons=(
            "Notes.read never succeeded. Mend the surface, or declare it with @operation(may_fail=True)",
        ),
    )

    assert (
        terminal.render([report])
        == """\
INCONCLUSIVE  Notes: no leak was seen, but too little was seen to call it clean
  - Notes.read never succeeded. Mend the surface, or declare it with @operation(may_fail=True)

  checked  Notes: 1 program, 1 call, 2.0 s; 1 owner saw an own secret again; judged by canary,
           integrity; seed 7"""
    )


def test_a_reason_of_several_lines_is_told_in_as_many() -> None:
    reason = "every example was cut short. The first: Deadlock: no task can go on.\nalice: waits, at app.py:3 in read"
    report = replace(LEAK, verdict=Verdict.INCONCLUSIVE, findings=(), reasons=(reason,))

    lines = terminal.render([report]).splitlines()

    assert lines[1:3] == [
        "  - every example was cut short. The first: Deadlock: no task can go on.",
        "    alice: waits, at app.py:3 in read",
    ]
    assert terminal.summary([report]).endswith("Deadlock: no task can go on.")


def test_a_hint_is_told_shortly_and_marked_as_not_failing() -> None:
    hint = replace(
        SEEN, oracle="noninterference", severity="hint", explanation="ids are serial numbers", replay=""
    )
    report = replace(LEAK, verdict=Verdict.CLEAN, findings=(hint,), oracles=(), controls=0, seed=0)

    assert (
        terminal.render([report])
        == """\
CLEAN  Notes: 3 programs, 1,041 calls, 2.0 s

hint  noninterference  what alice sees depends on what bob does, in read (does not fail the
      test)
  why      ids are serial numbers"""
    )


def test_the_summary_has_a_line_for_each_finding_and_tells_no_story_again() -> None:
    clean = replace(LEAK, verdict=Verdict.CLEAN, findings=(), test="tests/test_notes.py::test_clean")

    assert terminal.summary([LEAK, clean]).splitlines() == [
        "LEAK          tests/test_notes.py::test_isolated: canary: bob saw what alice wrote, in read",
        "CLEAN         tests/test_notes.py::test_clean: 3 programs, 1,041 calls, 2.0 s; 12 owners saw ...",
    ]


def test_a_command_can_be_pasted_into_a_shell() -> None:
    report = replace(LEAK, test="tests/test_notes.py::test_isolated[two words]")

    assert (
        "  replay   pytest 'tests/test_notes.py::test_isolated[two words]' --ssot-replay=v1.a0b0"
        in terminal.render([report])
    )


def test_what_an_application_answers_cannot_steer_the_terminal() -> None:
    line = replace(IN_TURN.lines[0], answer="'\x1b[2J\u202e'")

    text = "\n".join(table(replace(IN_TURN, lines=(line,)), 96))

    assert "\\x1b[2J\\u202e" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_more_users_than_there_is_room_for_are_named_in_each_row() -> None:
    users = tuple(f"user{number} (user '{number}')" for number in range(6))
    lines = tuple(
        Line(number=number, user=number, call="read()", answer="204", began=2 * number, ended=2 * number + 1)
        for number in range(6)
    )

    assert table(Story(users=users, lines=lines), 96)[:2] == [
        "  0  user0  read() -> 204",
        "  1  user1  read() -> 204",
    ]


def test_no_line_but_a_command_is_wider_than_asked_for() -> None:
    lines = terminal.render([LEAK], width=80).splitlines()

    assert max(len(line) for line in lines if "replay" not in line) <= 80


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("Mira", "mira", "they differ in upper and lower case only"),
        ("mira", "mira ", "they differ in white space at an end only"),
        ("a:b", "a/b", "they differ in separators only"),
        ("a\u200bb", "ab", "they differ in characters that cannot be seen"),
        ("\xe9", "e\u0301", "they look the same, and are composed of other Unicode characters"),
        ("\u212a", "k", "Unicode compatibility forms and case folding (NFKC) make them one"),
        ("a%3ab", "a:b", "they are the same once percent signs are decoded"),
        ("ab", "abc", "one begins with the other"),
        ("7", "07", "they are the same number"),
        ("mira", "noor", ""),
    ],
)
def test_the_difference_of_lookalikes_is_said_in_words(one: str, other: str, said: str) -> None:
    assert difference(one, other).startswith(said)
    assert bool(difference(one, other)) == bool(said)
