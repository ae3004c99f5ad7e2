"""The comparison of two runs on stories, without an application."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from pytest_ssot_isolation.model.canary import Mint
from pytest_ssot_isolation.model.history import Bound, History, Observation, Outcome, Planted, Principal
from pytest_ssot_isolation.oracles.noninterference import Difference, View, compare, finding_of
from pytest_ssot_isolation.oracles.normal import Declarations, forms, is_moment


def view(
    *answers: object, nonce: str = "abcde", arguments: dict[int, tuple[tuple[str, object], ...]] | None = None,
    references: dict[int, tuple[tuple[str, int], ...]] | None = None, failing: tuple[int, ...] = (),
) -> View:  # fmt: skip
    """A run in which user 1 made one call ``op`` for each answer; user 0 is somebody else."""
    people = tuple(
        Principal(index=n, name=name, user_id=f"{nonce}-{name}", tenant_id=f"{nonce}t", serial=n + 1)
        for n, name in enumerate(("alice", "bob"))
    )
    observations = tuple(
        Observation(
            index=n, user=1, call=n, operation="op", channel="result", seen=seen, began=2 * n, ended=2 * n + 1,
            outcome=Outcome.FAILED if n in failing else Outcome.OK,
        )
        for n, seen in enumerate(answers)
    )  # fmt: skip
    bound = {
        n: Bound(
            id=n, user=1, operation="op", arguments=(arguments or {}).get(n, ()),
            references=(references or {}).get(n, ()),
        )
        for n in range(len(answers))
    }  # fmt: skip
    return View(history=History(principals=people, observations=observations, bound=bound), nonce=nonce)


def paths(full: View, solo: View, declared: Declarations | None = None, **options: Any) -> list[str]:
    found, _ = compare(full, solo, 1, declared or Declarations(), **options)
    return [difference.path for difference in found]


def test_equal_answers_do_not_differ() -> None:
    assert paths(view({"items": [1, 2]}), view({"items": [1, 2]})) == []


def test_a_count_over_all_users_differs_at_its_field() -> None:
    assert paths(view({"total": 5, "mine": 2}), view({"total": 2, "mine": 2})) == ["total"]


def test_a_field_that_is_there_only_beside_others_differs() -> None:
    assert paths(view({"a": 1, "warning": "busy"}), view({"a": 1})) == ["warning"]


def test_what_an_earlier_answer_lacks_alone_shifts_no_later_name() -> None:
    full = view({"id": str(uuid.uuid4())}, {"request": str(uuid.uuid4())})
    solo = view({"error": "taken"}, {"request": str(uuid.uuid4())})

    assert paths(full, solo) == ["id", "error"]


def test_a_known_id_in_place_of_a_new_one_differs() -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())

    assert paths(view({"id": first}, {"id": second}), view({"id": first}, {"id": first})) == ["id"]


def test_ids_and_letters_of_the_run_are_names() -> None:
    full = view({"owner": "abcde-bob", "key": "k:abcde", "url": "/u/abcde-bob/x"}, nonce="abcde")
    solo = view({"owner": "zyxwv-bob", "key": "k:zyxwv", "url": "/u/zyxwv-bob/x"}, nonce="zyxwv")

    assert paths(full, solo) == []


def test_another_users_id_in_place_of_ones_own_still_differs() -> None:
    full = view({"owner": "abcde-alice"}, nonce="abcde")
    solo = view({"owner": "zyxwv-bob"}, nonce="zyxwv")

    assert paths(full, solo) == ["owner"]


def test_random_uuids_are_names_and_their_equality_counts() -> None:
    one, two, three = (str(uuid.UUID(int=n)) for n in (1, 2, 3))

    assert paths(view([one, two, one]), view([three, two, three])) == []
    assert paths(view([one, two, one]), view([three, two, two])) == ["*"]


def test_an_opaque_field_is_compared_up_to_renaming() -> None:
    declared = Declarations(opaque=("id",))

    assert paths(view({"id": 7}, {"id": 9}, {"id": 7}), view({"id": 1}, {"id": 2}, {"id": 1}), declared) == []
    assert paths(view({"id": 7}, {"id": 7}), view({"id": 1}, {"id": 2}), declared) == ["id"]


def test_an_ignored_field_is_not_compared_and_one_operation_can_be_named() -> None:
    full, solo = view({"by": "a", "n": 1}), view({"by": "b", "n": 1})

    assert paths(full, solo, Declarations(ignore=("by",))) == []
    assert paths(full, solo, Declarations(ignore=("op:by",))) == []
    assert paths(full, solo, Declarations(ignore=("other:by",))) == ["by"]
    assert paths(full, solo, Declarations(ignore=("op:*",))) == []


def test_an_order_free_list_is_compared_as_a_set() -> None:
    full, solo = view({"items": [2, 1]}), view({"items": [1, 2]})

    assert paths(full, solo) == ["items.*", "items.*"]
    assert paths(full, solo, Declarations(order_free=("items",))) == []


def test_a_number_in_a_text_that_is_an_opaque_id_in_both_runs_is_alike() -> None:
    declared = Declarations(opaque=("id",))
    full, solo = view({"id": 17, "text": "note 17 saved"}), view({"id": 3, "text": "note 3 saved"})

    assert paths(full, solo, declared) == []


def test_a_count_in_a_text_is_not_taken_for_an_id() -> None:
    declared = Declarations(opaque=("id",))
    full, solo = view({"id": 17, "text": "you have 2 notes"}), view({"id": 3, "text": "you have 3 notes"})

    assert paths(full, solo, declared) == ["text"]


def test_what_stands_for_an_absent_users_id_is_alike() -> None:
    full = view(
        {"error": {"type": "KeyError", "text": "7"}},
        arguments={0: (("note", 7),)},
        references={0: (("note", 0),)},
    )
    solo = view(
        {"error": {"type": "KeyError", "text": "1000010"}},
        arguments={0: (("note", 1000010),)}, references={0: (("note", 0),)},
    )  # fmt: skip

    assert paths(full, solo) == []


def test_forbidden_beside_others_and_unknown_alone_tells_what_exists() -> None:
    full = view({"status": 403, "headers": {}, "body": None}, failing=(0,))
    solo = view({"status": 404, "headers": {}, "body": None}, failing=(0,))

    assert paths(full, solo) == ["status"]


@pytest.mark.parametrize("name", ["date", "content-length", "age"])
def test_headers_of_the_transport_are_not_compared(name: str) -> None:
    full = view({"status": 200, "headers": {name: "a"}, "body": 1})
    solo = view({"status": 200, "headers": {name: "b"}, "body": 1})

    assert paths(full, solo) == []


def test_a_finding_names_the_only_other_user_and_quotes_both_sights() -> None:
    full, solo = view({"total": 5}), view({"total": 2})
    people = full.history.principals
    bound = {**full.history.bound, 9: Bound(id=9, user=0, operation="write", arguments=())}
    history = History(principals=people, observations=full.history.observations, bound=bound)

    finding = finding_of(
        Difference(0, "op", "result", "total", 5, 2), history, solo.history, 1, lambda seen: ()
    )

    assert (finding.oracle, finding.victim, finding.offender) == ("noninterference", "bob", "alice")
    assert finding.explanation == (
        "what bob sees depends on others: in the answer to op at total beside others bob sees 5, alone 2"
    )


def test_a_thing_that_got_the_id_of_another_which_was_deleted_is_not_compared() -> None:
    asked: Any = {"arguments": {1: (("note", 1),)}, "references": {1: (("note", 0),)}}
    full = view({"id": 1}, {"body": "mine"}, **asked)
    solo = view({"id": 1}, {"error": "no such note"}, **asked)

    assert paths(full, solo) == []


@pytest.mark.parametrize("said", ["try again in {} s", "took {} ms", "waited {} seconds"])
def test_durations_in_texts_are_noise(said: str) -> None:
    assert paths(view({"text": said.format("0.5")}), view({"text": said.format("12.25")})) == []


@pytest.mark.parametrize(
    "pointer", [" at character 18", "\nLINE 1: select body from note\n                         ^"]
)
def test_where_in_its_statement_postgresql_met_an_error_is_noise(pointer: str) -> None:
    said = 'relation "note" does not exist'

    assert paths(view({"text": said}), view({"text": said + pointer})) == []
    assert paths(view({"text": said}), view({"text": 'relation "post" does not exist' + pointer})) == ["text"]


def test_a_count_of_things_in_a_text_is_no_duration() -> None:
    assert paths(view({"text": "5 shares"}), view({"text": "2 shares"})) == ["text"]


def test_a_time_in_the_form_of_http_is_a_moment() -> None:
    assert is_moment("Thu, 26 Nov 2026 14:25:05 GMT")
    assert not is_moment("Thu, see page 26")


def test_after_one_run_alone_gave_a_new_thing_an_old_id_nothing_is_compared() -> None:
    def making(*ids: int, then: object) -> View:
        made = view(*({"id": number} for number in ids), then)
        canary = Mint(b"test").mint(1, 0, str)
        planted = {(1, n): Planted(canary=canary, owner=1, call=n, argument="body") for n in range(len(ids))}
        return View(history=replace(made.history, planted=planted), nonce=made.nonce)

    opaque = Declarations(opaque=("id",))

    assert paths(making(1, 3, then={"left": 2}), making(1, 1, then={"left": 1}), opaque) == []
    assert paths(making(1, 3, then={"left": 2}), making(1, 2, then={"left": 1}), opaque) == ["left"]


@pytest.mark.parametrize(
    "text", ["aB3_x.y-z~", "a:b", "a b", "ü", "a'b", 'a"b', "a<b", "a/b", "a+b", "a\n", "a\\b"]
)
def test_an_id_is_known_in_every_way_of_writing_it(text: str) -> None:
    written = {
        text,
        quote(text, safe=""),
        quote(text),
        quote_plus(text),
        json.dumps(text)[1:-1],
        escape(text),
    }
    written |= {repr(text)[1:-1], text.strip(), text.lower(), text.upper()}
    assert set(forms(text)) == written
