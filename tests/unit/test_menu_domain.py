"""The menu's rules: what stands on it, what it costs, what can be had."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from menu.domain import AvailabilityChange, IngredientMissing, Menu, Recipe, UnknownItem
from menu.use_cases import initial_recipes

NOW = datetime(2026, 3, 14, 18, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def recipe(sku: str, *ingredients: str, price: int = 990) -> Recipe:
    return Recipe(sku=sku, name=sku.title(), description="", price_cents=price, ingredients=ingredients)


def menu() -> Menu:
    return Menu.of([recipe("margherita", "tomato", "basil"), recipe("pesto", "basil"), recipe("funghi", "thyme")], NOW)


def test_the_opening_menu_is_fit_to_be_sold() -> None:
    found = initial_recipes()
    assert 8 <= len(found) == len({each.sku for each in found})
    for each in found:
        assert 500 <= each.price_cents <= 2000, each
        assert each.name, each.description
        assert len(each.ingredients) == len(set(each.ingredients)) >= 4, each
        assert ("gluten" in each.allergens) == ("wheat-dough" in each.ingredients), each


def test_an_ingredient_concerns_every_pizza_that_needs_it() -> None:
    found = menu()
    assert found.supply("basil", at(1), at(2), available=False) == [
        AvailabilityChange("margherita", False, at(2)),
        AvailabilityChange("pesto", False, at(2)),
    ]
    assert found.supply("tomato", at(2), at(3), available=False) == []
    assert found.missing("margherita") == ["tomato", "basil"]
    assert found.supply("basil", at(4), at(5), available=True) == [AvailabilityChange("pesto", True, at(5))]
    assert [sku for sku in found.items if found.available(sku)] == ["pesto", "funghi"]


@given(st.permutations([(1, False), (2, True), (3, False), (4, True), (5, False)]), st.integers(1, 5))
def test_of_an_ingredient_the_latest_news_counts_whenever_it_comes(news: list[tuple[int, bool]], last: int) -> None:
    found = menu()
    for when, available in [each for each in news if each[0] <= last] * 2:
        found.supply("thyme", at(when), at(9), available=available)
    assert found.available("funghi") == (last % 2 == 0)


def test_by_hand_a_pizza_is_taken_off_and_offered_again() -> None:
    found = menu()
    assert found.withdraw("funghi", at(1)) == [AvailabilityChange("funghi", False, at(1))]
    assert found.withdraw("funghi", at(2)) == []
    found.supply("thyme", at(3), at(3), available=False)
    with pytest.raises(IngredientMissing, match="funghi cannot be restocked: the kitchen is out of thyme"):
        found.restore("funghi", at(4))
    assert found.supply("thyme", at(5), at(5), available=True) == [], "a person has taken it off"
    assert found.restore("funghi", at(6)) == [AvailabilityChange("funghi", True, at(6))]
    assert found.restore("funghi", at(7)) == []


def test_recipes_and_prices_are_told_once_for_each_change() -> None:
    found = menu()
    assert found.put(recipe("funghi", "thyme"), at(1)) is None
    assert found.reprice("funghi", 990, at(1)) is None
    assert found.reprice("funghi", 1090, at(1)) == at(1)
    assert found.put(recipe("funghi", "thyme"), at(2)) is not None
    assert found.item("funghi").recipe.price_cents == 990
    assert found.put(recipe("hawaii", "pineapple"), at(3)) is not None
    assert list(found.items) == ["margherita", "pesto", "funghi", "hawaii"]


def test_a_recipe_that_needs_what_is_missing_is_on_the_menu_but_cannot_be_had() -> None:
    found = menu()
    found.supply("truffle", at(1), at(1), available=False)
    found.put(recipe("tartufo", "truffle"), at(2))
    assert not found.available("tartufo")


@pytest.mark.parametrize("call", ["item", "missing", "available", "withdraw", "restore", "reprice"])
def test_what_is_not_on_the_menu_is_refused(call: str) -> None:
    arguments = {"withdraw": (NOW,), "restore": (NOW,), "reprice": (990, NOW)}.get(call, ())
    with pytest.raises(UnknownItem, match="'hawaii' is not on the menu"):
        getattr(menu(), call)("hawaii", *arguments)


CHANGES = st.tuples(st.sampled_from(["off", "on", "price", "basil", "put"]), st.integers(0, 1), st.integers(-3, 3))


@given(st.lists(CHANGES, max_size=30))
def test_every_change_of_a_pizza_is_dated_later_than_the_one_before(changes: list[tuple[str, int, int]]) -> None:
    """Readers put facts in order by their moments; the clock may go back and changes may be as one."""
    found, told, had = menu(), [NOW], True
    for number, (what, value, offset) in enumerate(changes):
        now, flips = at(offset), list[AvailabilityChange]()
        match what:
            case "off":
                flips = found.withdraw("pesto", now)
            case "on" if not found.missing("pesto"):
                flips = found.restore("pesto", now)
            case "basil":
                flips = found.supply("basil", at(number), now, available=bool(value))
            case "price" if since := found.reprice("pesto", 900 + value, now):
                told.append(since)
            case "put" if item := found.put(recipe("pesto", "basil", price=950 + value), now):
                told.append(item.changed_at)
        for flip in flips:
            if flip.sku == "pesto":
                assert flip.available is not had
                had = flip.available
                told.append(flip.since)
    assert told == sorted(set(told))
    assert had == found.available("pesto")
    assert msgspec.json.decode(msgspec.json.encode(found), type=Menu) == found
