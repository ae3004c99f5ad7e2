"""The proof: how claims stand, and how the document tells it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_ssot_isolation.report.claims import AREAS, BadClaims, Bar, Claim, Claims, read_claims
from pytest_ssot_isolation.report.evidence import (
    Evidence,
    Figure,
    Judged,
    Outcome,
    Standing,
    judge,
    seconds,
)
from pytest_ssot_isolation.report.proof import render, without_times

CLAIM = Claim(name="a.b", section=2, area="isolation", text="Users are kept apart")
MEASURED = Claim(
    name="a.b",
    section=3,
    area="performance",
    text="It is quick",
    is_measured=True,
    bars=(Bar(mean=0.001), Bar(users=20, mean=0.02, max=0.5)),
    before=0.0153,
)


def evidence(
    test: str = "test_it.py::test_it", outcome: Outcome = Outcome.PASSED, reason: str = "why"
) -> Evidence:
    return Evidence(test=test, claims=("a.b",), outcome=outcome, reason=reason)


def measured(mean: float, users: int | None = None, longest: float = 0.0) -> Evidence:
    figure = Figure(name="test_speed", users=users, mean=mean, median=mean, max=longest)
    return Evidence(test="test_it.py::test_speed", claims=("a.b",), figures=(figure,))


def standing(claim: Claim, *behind: Evidence) -> Standing:
    return judge(claim, behind).standing


def document(claim: Claim, *behind: Evidence) -> str:
    return render(
        Claims(sections={2: "Isolation", 3: "Performance", 7: "Readiness", 8: "Controls"}, claims=(claim,)),
        behind,
        {"seed": "7", "written": "2026-01-02 03:04:05 UTC"},
    )


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], Standing.NOT_SHOWN),
        ([Outcome.PASSED], Standing.PROVED),
        ([Outcome.SKIPPED], Standing.NOT_SHOWN),
        ([Outcome.UNCLEAR], Standing.NOT_SHOWN),
        ([Outcome.FAILED], Standing.REFUTED),
        ([Outcome.FLAKY], Standing.REFUTED),
        ([Outcome.PASSED, Outcome.SKIPPED], Standing.PROVED),
        ([Outcome.PASSED, Outcome.UNCLEAR], Standing.NOT_SHOWN),
        ([Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED], Standing.REFUTED),
    ],
    ids=lambda value: " ".join(one.value for one in value) or "nothing" if isinstance(value, list) else "",
)
def test_how_a_claim_stands_after_its_tests(outcomes: Sequence[Outcome], expected: Standing) -> None:
    behind = [evidence(f"test_{number}", outcome) for number, outcome in enumerate(outcomes)]

    assert standing(CLAIM, *behind) is expected


def test_a_test_of_another_claim_proves_nothing() -> None:
    other = Evidence(test="test_x", claims=("a.c",))

    assert judge(CLAIM, [other]) == Judged(
        claim=CLAIM,
        standing=Standing.NOT_SHOWN,
        reasons=("no test that ran is marked as proving it",),
        evidence=(),
    )


def test_a_claim_whose_need_is_not_met_is_not_applicable_and_says_what_it_needs() -> None:
    claim = Claim(name="a.b", section=2, area="isolation", text="x", needs="a server with row policies")

    judged = judge(claim, [evidence(outcome=Outcome.SKIPPED, reason="embedded has none")])

    assert judged.standing is Standing.NOT_APPLICABLE
    assert judged.reasons == (
        "it needs a server with row policies",
        "test_it.py::test_it was skipped: embedded has none",
    )
    assert standing(claim) is Standing.NOT_SHOWN
    assert standing(claim, evidence(outcome=Outcome.FAILED)) is Standing.REFUTED
    assert standing(claim, evidence()) is Standing.PROVED


def test_a_benchmark_within_its_bar_proves_and_one_over_it_refutes() -> None:
    assert standing(MEASURED, measured(0.0009)) is Standing.PROVED
    assert judge(MEASURED, [measured(0.002)]).reasons == ("test_speed: mean 2 ms, budget 1 ms",)


def test_a_bar_for_a_number_of_users_goes_before_the_one_for_any() -> None:
    assert standing(MEASURED, measured(0.01, users=20)) is Standing.PROVED
    assert standing(MEASURED, measured(0.01, users=3)) is Standing.REFUTED
    assert judge(MEASURED, [measured(0.01, users=20, longest=0.6)]).reasons == (
        "test_speed: max 600 ms, budget 500 ms",
    )


def test_a_measured_claim_is_not_shown_without_a_figure_or_without_a_bar() -> None:
    without_bar = Claim(name="a.b", section=3, area="performance", text="x", is_measured=True)

    assert judge(MEASURED, [evidence()]).reasons == (
        "nothing was measured: its tests use no benchmark, or benchmarks are switched off",
    )
    judged = judge(without_bar, [measured(0.0001)])
    assert judged.standing is Standing.NOT_SHOWN
    assert "no budget is set to hold it to" in judged.reasons[0]


def test_the_shipped_claims_fill_six_sections_and_every_area() -> None:
    shipped = read_claims()

    assert list(shipped.sections) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {claim.section for claim in shipped.claims} == {1, 2, 3, 4, 5, 6}
    assert {claim.area for claim in shipped.claims} == set(AREAS)
    assert "isolation.concurrent-users" in {claim.name for claim in shipped.claims}


def test_a_projects_claims_add_change_and_drop(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(
        """
        [sections]
        9 = "Backups"
        [claims."backup.restores"]
        section = 9
        text = "A backup restores"
        controls = ["SOC2:A1.2"]
        [claims."performance.context-creation"]
        budgets = [{ mean = 1e-5 }, { users = 3, max = 1 }]
        before = 0.0153
        [claims."isolation.websockets"]
        drop = true
        """
    )

    claims = read_claims(path)

    named = {claim.name: claim for claim in claims.claims}
    assert claims.sections[9] == "Backups"
    assert named["backup.restores"].controls == ("SOC2:A1.2",)
    assert named["performance.context-creation"].bars == (Bar(mean=1e-5), Bar(users=3, max=1))
    assert named["performance.context-creation"].text == "A user context is made within its budget"
    assert "isolation.websockets" not in named


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[claims", "which cannot be read"),
        ("[claim.x]\ntext = 'y'", "has a table 'claim'"),
        ("[claims.x]\ntext = 'y'", "The claim 'x' needs 'section', a number"),
        ("[claims.x]\nsection = 1", "The claim 'x' needs 'text', a sentence"),
        ("[claims.x]\nsection = 8\ntext = 'y'", "is in section 8; claims may be in 1, 2, 3, 4, 5, 6"),
        (
            "[claims.x]\nsection = 1\ntext = 'y'\narea = 'fun'",
            "is in the area 'fun'; areas are isolation, ssot",
        ),
        ("[claims.x]\nsection = 1\ntext = 'y'\nbudget = 3", "The claim 'x' has budget; it may have area"),
        ("[claims.x]\nsection = 1\ntext = 'y'\nbudgets = [{users = 3}]", "a budget has mean, median or max"),
    ],
)
def test_a_file_of_claims_that_says_something_else_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(text)

    with pytest.raises(BadClaims) as raised:
        read_claims(path)
    assert told in str(raised.value)


def test_the_document_tells_how_a_refuted_claim_is_refuted() -> None:
    found = Evidence(
        test="test_it.py::test_it",
        claims=("a.b",),
        outcome=Outcome.FAILED,
        reason="LeakFound: ...",
        findings=("bob read what alice wrote | <twice>",),
    )

    text = document(CLAIM, found)

    assert "Of 1 claims: 1 REFUTED." in text
    assert "| Users are kept apart (`a.b`) | **REFUTED** | 0 of 1 passed |" in text
    assert "- test_it.py::test_it: bob read what alice wrote | &lt;twice>" in text


def test_the_document_shows_benchmarks_with_budget_what_it_took_before_and_status() -> None:
    text = document(MEASURED, measured(0.0009), measured(0.03, users=20, longest=0.4))

    assert "| test_speed |  | 900 µs | 900 µs | 0 ns | mean 1 ms | 15.3 ms | within |" in text
    assert "| test_speed | 20 | 30 ms | 30 ms | 400 ms | mean 20 ms, max 500 ms | 15.3 ms | over |" in text


def test_what_it_took_before_may_be_known_for_one_number_of_users_only() -> None:
    bars = (Bar(users=1, median=1, before=0.0153), Bar(users=3, median=1))
    claim = Claim(name="a.b", section=3, area="performance", text="x", bars=bars, is_measured=True)

    text = document(claim, measured(0.001, users=1), measured(0.003, users=3))

    assert "| test_speed | 1 | 1 ms | 1 ms | 0 ns | median 1 s | 15.3 ms | within |" in text
    assert "| test_speed | 3 | 3 ms | 3 ms | 0 ns | median 1 s |  | within |" in text


def test_readiness_counts_claims_and_leaves_out_those_that_do_not_apply() -> None:
    claims = [
        Claim(name=name, section=2, area=area, text=name, needs=needs)
        for name, area, needs in (
            ("shown", "isolation", ""),
            ("open", "isolation", ""),
            ("elsewhere", "security", "a server"),
        )
    ]
    behind = [
        Evidence(test="t1", claims=("shown",)),
        Evidence(test="t2", claims=("elsewhere",), outcome=Outcome.SKIPPED, reason="none"),
    ]

    text = render(Claims(sections={2: "Isolation", 7: "Readiness"}, claims=tuple(claims)), behind, {})

    assert "| isolation | 2 | 1 | 0 | 1 | 0 | 50 % |" in text
    assert "| security | 1 | 0 | 0 | 0 | 1 | - |" in text
    assert "| all | 3 | 1 | 0 | 1 | 1 | 50 % |" in text


def test_controls_list_their_tests_as_evidence_and_never_say_that_one_is_met() -> None:
    by_test = Evidence(
        test="test_a", claims=(), controls=("SOC2:CC6.1",), outcome=Outcome.FAILED, reason="broke"
    )
    by_claim = Claim(
        name="a.b", section=2, area="isolation", text="x", controls=("HIPAA:164.312(a)(1)", "ISO:9")
    )

    text = document(by_claim, by_test, evidence("test_b"))

    soc2 = text.partition("### SOC2:CC6.1")[2]
    assert "| `test_a` | failed |" in soc2
    assert "Tests: 1 failed. Findings: none." in soc2
    assert "- `test_a`: broke" in soc2
    assert "| `test_b` | passed | `a.b` |" in text.partition("### HIPAA:164.312(a)(1)")[2]
    assert "compliant" not in text.lower()


def test_a_claim_that_a_test_names_and_nobody_knows_is_told() -> None:
    text = document(CLAIM, Evidence(test="t", claims=("a.c",)))

    assert "## Claims that no section has" in text
    assert "- `a.c`" in text


def test_the_order_in_which_tests_ended_does_not_show() -> None:
    behind = [evidence("test_b"), evidence("test_a", Outcome.FAILED), measured(0.1)]

    assert document(CLAIM, *behind) == document(CLAIM, *reversed(behind))


def test_two_runs_that_differ_in_times_only_give_the_same_text_without_times() -> None:
    first = document(MEASURED, measured(0.00012, longest=2.5))
    second = document(MEASURED, measured(0.00093, longest=0.0071)).replace("2026-01-02", "2027-11-12")

    assert first != second
    assert without_times(first) == without_times(second)
    assert without_times("seed 7, 3 users, 12 of 15") == "seed 7, 3 users, 12 of 15"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.5, "2.5 s"),
        (0.0153, "15.3 ms"),
        (0.9999, "1000 ms"),
        (35e-6, "35 µs"),
        (4e-9, "4 ns"),
        (1234.0, "1234 s"),
    ],
)
def test_a_time_is_a_number_a_space_and_a_unit(value: float, text: str) -> None:
    assert seconds(value) == text
