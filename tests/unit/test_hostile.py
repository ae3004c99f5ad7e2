"""Look-alike ids: which careless ways of keeping users apart they find out."""

from __future__ import annotations

import html
import json
import posixpath
import random
import re
import unicodedata
import urllib.parse
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from itertools import combinations

import pytest

from pytest_ssot_isolation.generation.casts import SWEEP_KEYS
from pytest_ssot_isolation.generation.families import CUTS, units
from pytest_ssot_isolation.generation.hostile import (
    ALL_FAMILIES,
    BOUNDARY,
    FAMILIES,
    JOINT,
    KINDS,
    SEPARATORS,
    Identity,
    deal,
    identities,
    integers,
    key_pool,
    plain,
    relatives,
    sweep,
    uuids,
)
from pytest_ssot_isolation.model.context import UserExecutionContext

NONCE = "k3x9q"
BASES = ["a", "7", "alice", "kriss-7", "user:12", "İ", "日本", "a" * 255, " x", NONCE]


def seeded(seed: int = 1) -> random.Random:
    return random.Random(seed)


def number(text: str) -> object:
    found = re.search(r"[-+_.0-9e\u0660-\u0669\uff10-\uff19]+\Z", text)
    try:
        return (text[: found.start()], float(found[0])) if found else text
    except ValueError:
        return text


CARELESS: dict[str, Callable[[str], object]] = {
    "lower": str.lower,
    "upper": str.upper,
    "casefold": str.casefold,
    "strip": str.strip,
    "remove spaces": lambda text: "".join(text.split()),
    "NFC": lambda text: unicodedata.normalize("NFC", text),
    "NFKC": lambda text: unicodedata.normalize("NFKC", text),
    "without accents": lambda text: unicodedata.normalize("NFD", text).encode("ascii", "ignore"),
    "ASCII only": lambda text: text.encode("ascii", "ignore"),
    "ASCII with question marks": lambda text: text.encode("ascii", "replace"),
    "slug": lambda text: re.sub("[^a-z0-9]+", "-", text.lower()),
    "letters and digits": lambda text: re.sub("[^a-zA-Z0-9]+", "", text),
    "file name": lambda text: text.replace("/", "_"),
    "module name": lambda text: text.replace("-", "_"),
    "file name of colons": lambda text: text.replace(":", "_"),
    "doubled separators": lambda text: re.sub("-+", "-", text),
    "unquote": urllib.parse.unquote,
    "unquote twice": lambda text: urllib.parse.unquote(urllib.parse.unquote(text)),
    "unquote plus": urllib.parse.unquote_plus,
    "unescape HTML": html.unescape,
    "unescape JSON": lambda text: re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text),
    "path": posixpath.normpath,
    "before the colon": lambda text: text.split(":")[0],
    "before the at": lambda text: text.split("@")[0],
    "before the plus": lambda text: text.split("+")[0],
    "behind the colon": lambda text: text.rsplit(":")[-1],
    "without a prefix": lambda text: text.removeprefix("user_").removeprefix("user:"),
    "without quotes": lambda text: text.replace("'", "").replace('"', ""),
    "number": number,
    "first letters": lambda text: text[: len(NONCE) + 3],
    "last letters": lambda text: text[-5:],
    "visible characters": lambda text: "".join(c for c in text if unicodedata.category(c) != "Cf"),
    **{f"first {cut}": (lambda text, cut=cut: text[:cut]) for cut in CUTS},  # type: ignore[misc]
}


def collisions(texts: Sequence[str], careless: Callable[[str], object]) -> list[list[str]]:
    groups = defaultdict(list)
    for text in texts:
        groups[careless(text)].append(text)
    return [group for group in groups.values() if len(group) > 1]


@pytest.mark.parametrize("base", BASES, ids=lambda base: ascii(base)[:9])
def test_relatives_are_distinct_valid_and_not_the_base(base: str) -> None:
    texts = [relative.text for relative in relatives(base)]

    assert len(texts) == len(set(texts)) > 40
    assert base not in texts
    for text in texts:
        assert UserExecutionContext(text, tenant_id=text).user_id == text


@pytest.mark.parametrize("base", [base for base in BASES if len(base) < 200], ids=ascii)
def test_each_family_has_relatives_of_any_short_base(base: str) -> None:
    assert {relative.family for relative in relatives(base)} == set(FAMILIES)


def test_a_tab_at_an_end_is_left_out_since_no_context_holds_it() -> None:
    assert not any("\t" in relative.text for relative in relatives("alice"))


@pytest.mark.parametrize("way", CARELESS)
def test_some_relatives_collide_in_each_careless_way(way: str) -> None:
    base = f"{NONCE}kriss-7"
    texts = [base, *(relative.text for relative in relatives(base, keep=len(NONCE)))]

    assert collisions(texts, CARELESS[way])


# How an application must be careless for these to matter; the family as a whole is asked.
WAYS_OF_A_FAMILY = {
    "letter case": ["lower"],
    "space at an end": ["strip"],
    "part of another": ["first letters", "last letters"],
    "separator": ["slug", "letters and digits", *(way for way in CARELESS if way.startswith("before"))],
    "Unicode form": ["NFC"],
    "equal beginning": [f"first {cut}" for cut in CUTS],
    "compatibility letter": ["NFKC"],
    "escaped character": ["unquote", "unquote twice", "unescape HTML", "unescape JSON", "unquote plus"],
    "case folding": ["casefold", "upper", "lower", "without accents"],
    "number form": ["number"],
    "path form": ["path"],
    "quote": ["without quotes"],
    "invisible character": ["visible characters"],
    "lossy encoding": ["ASCII with question marks"],
}


@pytest.mark.parametrize("family", WAYS_OF_A_FAMILY)
def test_a_family_collides_in_its_own_ways_with_the_base_or_with_its_twin(family: str) -> None:
    base = f"{NONCE}kriss-7"
    first = [unit for name, unit in units(base, len(NONCE)) if name == family][:3]

    for unit in first[:1]:
        texts = unit if len(unit) == 2 else (base, *unit)
        assert any(collisions(texts, CARELESS[way]) for way in WAYS_OF_A_FAMILY[family]), unit


def test_patterns_match_the_base() -> None:
    base = "alice"
    texts = [relative.text for relative in relatives(base) if relative.family == "pattern sign"]

    assert sum(fnmatchcase(base, text) for text in texts) >= 4
    assert sum(bool(re.fullmatch(text.replace("%", ".*").replace("_", "."), base)) for text in texts[:2]) == 2


def test_each_separator_stands_at_an_end_and_between() -> None:
    texts = {relative.text for relative in relatives("kriss-7")}

    for separator in SEPARATORS:
        assert f"kriss-7{separator}" in texts
        assert separator == "-" or f"kriss{separator}7" in texts
    assert {"kriss--7", "kriss7"} <= texts


@pytest.mark.parametrize("count", [1, 2, 3, 5, 40, 151, 1000])
@pytest.mark.parametrize("ids", KINDS)
def test_users_are_as_many_as_asked_for_distinct_and_hold_the_nonce(ids: str, count: int) -> None:
    users = deal(ids, seeded(), NONCE, count)
    stem = {"int": users[0].tenant_id, "uuid": users[0].user_id[:8]}.get(ids, NONCE)

    assert len(users) == len({user.user_id for user in users}) == count
    assert all(stem in user.user_id and stem in user.tenant_id for user in users)
    assert all(UserExecutionContext(user.user_id, tenant_id=user.tenant_id) for user in users)


@pytest.mark.parametrize("ids", KINDS)
def test_the_same_seed_and_nonce_draw_the_same_users(ids: str) -> None:
    first, again = (deal(ids, seeded(7), NONCE, 12, tenants=3) for _ in range(2))

    assert first == again
    assert first != deal(ids, seeded(7), "zz9zz", 12, tenants=3)


@pytest.mark.parametrize("ids", KINDS)
def test_dealt_over_tenants_one_has_two_users_and_no_tenant_is_empty(ids: str) -> None:
    for count in (3, 4, 7):
        homes = Counter(user.tenant_id for user in deal(ids, seeded(), NONCE, count, tenants=2))
        assert len(homes) == 2
        assert max(homes.values()) >= 2
    assert len({user.tenant_id for user in deal(ids, seeded(), NONCE, 2, tenants=2)}) == 2
    assert len({user.tenant_id for user in deal(ids, seeded(), NONCE, 40, tenants=20)}) == 20


def test_given_tenants_are_used_as_they_are() -> None:
    assert {user.tenant_id for user in identities(seeded(), NONCE, 9, tenants=["A", "B"])} == {"A", "B"}


def test_two_users_are_look_alikes_of_each_other() -> None:
    for seed in range(200):
        one, other = identities(seeded(seed), NONCE, 2)
        assert "base" in (one.family, other.family) or one.family == other.family


def test_all_families_come_up_among_the_draws() -> None:
    found = {user.family for seed in range(400) for user in identities(seeded(seed), NONCE, 3)}

    assert found == {"base", *ALL_FAMILIES}


def test_refused_families_are_not_drawn() -> None:
    refused = [family for family in ALL_FAMILIES if family != "letter case"]

    assert {user.family for user in identities(seeded(), NONCE, 30, refused=refused)} == {
        "base",
        "letter case",
    }
    assert {user.family for user in identities(seeded(), NONCE, 5, refused=ALL_FAMILIES)} == {"base"}
    assert {user.family for user in sweep(seeded(), NONCE, refused=refused)} == {"base", "letter case"}


def joins(users: Sequence[Identity], separator: str) -> list[list[str]]:
    groups = defaultdict(list)
    for user in users:
        groups[f"{user.tenant_id}{separator}{user.user_id}"].append(user.user_id)
    return [group for group in groups.values() if len(group) > 1]


@pytest.mark.parametrize("separator", [":", "/", "-", "_", "|", "", "."])
def test_a_moving_boundary_collides_once_tenant_and_user_are_joined(separator: str) -> None:
    assert joins(sweep(seeded(), NONCE, 280), separator)


def test_a_sweep_begins_with_the_base_and_soon_holds_all_families() -> None:
    for seed in range(20):
        users = sweep(seeded(seed), NONCE, argument_names=("title",))
        assert len(users) == 80
        assert users[0].family == "base"
        assert {user.family for user in users[:40]} == {"base", *ALL_FAMILIES}


@pytest.mark.parametrize(
    "way", ["lower", "strip", "NFC", "NFKC", "casefold", "unquote", "path", "slug", "number"]
)
def test_the_first_forty_of_a_sweep_find_the_common_leaks(way: str) -> None:
    texts = [user.user_id for user in sweep(seeded(), NONCE)[:40]]

    assert collisions(texts, CARELESS[way])


@pytest.mark.parametrize("way", CARELESS)
def test_a_whole_sweep_finds_each_careless_way(way: str) -> None:
    for seed in range(5):
        assert collisions([user.user_id for user in sweep(seeded(seed), NONCE)], CARELESS[way])


def test_a_sweep_over_tenants_makes_the_tenants_look_alike() -> None:
    users = sweep(seeded(), NONCE, vary="tenant")

    assert len({user.tenant_id for user in users}) == len({user.user_id for user in users}) == 80
    assert collisions([user.tenant_id for user in users], str.lower)


JOINS: dict[str, Callable[[str, str], str]] = {
    **{f"user{s}key": (lambda user, key, s=s: f"{user}{s}{key}") for s in (":", "/", "-", "_", "|")},  # type: ignore[misc]
    "key:user": lambda user, key: f"{key}:{user}",
    "user:title:key": lambda user, key: f"{user}:title:{key}",
}


@pytest.mark.parametrize("join", JOINS)
def test_in_a_sweep_some_users_collide_once_their_id_and_key_are_joined(join: str) -> None:
    users = sweep(seeded(), NONCE, argument_names=("title",))
    keys = key_pool(seeded(), users, size=24, argument_names=("title",))
    owners = defaultdict(set)
    for user in users:
        for key in keys:
            owners[JOINS[join](user.user_id, key)].add(user.user_id)

    assert any(len(group) > 1 for group in owners.values())


def test_two_users_of_whom_one_holds_a_key_get_the_key_that_joins() -> None:
    users = [Identity("T", "X", "base"), Identity("T", "X:K1", JOINT), Identity("T", "X:title:K3", JOINT)]

    keys = key_pool(seeded(), users, size=9, argument_names=("title",))

    assert {"notes", "K1:notes", "title:K3:notes", "K3:title:notes"} <= set(keys)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 16])
def test_a_pool_has_its_size_starts_plain_and_does_not_depend_on_anything_else(size: int) -> None:
    users = identities(seeded(), NONCE, 5)
    pools = [key_pool(seeded(3), users, size=size) for _ in range(2)]

    assert pools[0] == pools[1]
    assert len(set(pools[0])) == size
    assert pools[0][0] == "notes"


def test_plain_ids_are_no_look_alikes() -> None:
    texts = [user.user_id for user in plain(NONCE, 1000)]

    assert all(re.fullmatch(r"[a-z0-9]+", text) for text in texts)
    assert len({len(text) for text in texts}) == 1


def test_numbers_begin_one_another_and_fit_four_octets() -> None:
    texts = [user.user_id for user in integers(seeded(), "zzzzzz", 4)]

    assert any(one != other and other.startswith(one) for one in texts for other in texts)
    everyone = [int(user.user_id) for user in integers(seeded(), "zzzzzz", 1111)]
    assert len(set(everyone)) == 1111
    assert max(everyone) < 2**31


def test_more_numbers_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="1111 ids for one nonce, not 1112"):
        integers(seeded(), NONCE, 1112)


def test_uuids_are_of_version_four_and_differ_in_few_digits() -> None:
    texts = [user.user_id for user in uuids(seeded(), NONCE, 40)]

    assert all(str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4 for text in texts)
    assert min(sum(x != y for x, y in zip(a, b, strict=True)) for a, b in combinations(texts, 2)) == 1


def test_an_unknown_kind_and_no_tenants_are_refused() -> None:
    with pytest.raises(ValueError, match="ids='strange' is not a kind of ids"):
        deal("strange", seeded(), NONCE, 2)
    with pytest.raises(ValueError, match="tenants must be a number from 1 or a list of tenant ids"):
        deal("hostile", seeded(), NONCE, 2, tenants=[])


def test_boundary_pairs_differ_in_tenant_and_user() -> None:
    twins = [user for user in sweep(seeded(), NONCE) if user.family == BOUNDARY]

    assert len(twins) >= 4
    for one, other in zip(twins[::2], twins[1::2], strict=True):
        assert one.tenant_id != other.tenant_id
        assert one.user_id != other.user_id


def test_json_and_utf8_carry_each_id() -> None:
    for user in sweep(seeded(), NONCE, 280):
        assert json.loads(json.dumps(user.user_id)) == user.user_id
        assert user.user_id.encode().decode() == user.user_id


def test_another_nonce_changes_nothing_but_the_nonce() -> None:
    for seed in range(30):
        one, other = (identities(seeded(seed), nonce, 5) for nonce in (NONCE, "7zz01"))
        assert [user.user_id for user in other] == [user.user_id.replace(NONCE, "7zz01") for user in one]
        assert key_pool(seeded(), one) == key_pool(seeded(), other)


JOINERS_BETWEEN = [
    ":",
    "/",
    "-",
    "_",
    "|",
    "",
    " ",
    ".",
    ",",
    "#",
    "@",
    "+",
    ";",
    "~",
    "&",
    "=",
    "::",
    ", ",
    "&title=",
]


@pytest.mark.parametrize("joiner", JOINERS_BETWEEN)
def test_in_a_whole_sweep_the_base_has_a_key_that_joins_to_what_another_has_under_the_plain_one(
    joiner: str,
) -> None:
    users = sweep(seeded(), NONCE, 360, argument_names=("title",))
    base, *others = (user.user_id for user in users)
    plain, *rest = key_pool(seeded(), users, size=SWEEP_KEYS, argument_names=("title",))

    meets = {f"{other}{joiner}{plain}" for other in others}

    assert meets & {f"{base}{joiner}{key}" for key in rest}


@pytest.mark.parametrize("joiner", [":", "/", "_", " "])
def test_so_it_does_where_the_key_stands_before_the_user(joiner: str) -> None:
    users = sweep(seeded(), NONCE, 360)
    base, *others = (user.user_id for user in users)
    plain, *rest = key_pool(seeded(), users, size=SWEEP_KEYS)

    meets = {f"{plain}{joiner}{other}" for other in others}

    assert meets & {f"{key}{joiner}{base}" for key in rest}
