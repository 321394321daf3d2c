"""The menu's rules: items, prices and availability."""

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
    result = initial_recipes()
    assert 8 <= len(result) == len({item.sku for item in result})
    for entry in result:
        assert 500 <= entry.price_cents <= 2000, entry
        assert entry.name, entry.description
        assert len(entry.ingredients) == len(set(entry.ingredients)) >= 4, entry
        assert ("gluten" in entry.allergens) == ("wheat-dough" in entry.ingredients), entry


def test_an_ingredient_concerns_every_pizza_that_needs_it() -> None:
    result = menu()
    assert result.supply("basil", at(1), at(2), available=False) == [
        AvailabilityChange("margherita", False, at(2)),
        AvailabilityChange("pesto", False, at(2)),
    ]
    assert result.supply("tomato", at(2), at(3), available=False) == []
    assert result.missing("margherita") == ["tomato", "basil"]
    assert result.supply("basil", at(4), at(5), available=True) == [AvailabilityChange("pesto", True, at(5))]
    assert [sku for sku in result.items if result.available(sku)] == ["pesto", "funghi"]


@given(st.permutations([(1, False), (2, True), (3, False), (4, True), (5, False)]), st.integers(1, 5))
def test_of_an_ingredient_the_latest_news_counts_whenever_it_comes(news: list[tuple[int, bool]], last: int) -> None:
    result = menu()
    for when, available in [new for new in news if new[0] <= last] * 2:
        result.supply("thyme", at(when), at(9), available=available)
    assert result.available("funghi") == (last % 2 == 0)


def test_by_hand_a_pizza_is_taken_off_and_offered_again() -> None:
    result = menu()
    assert result.withdraw("funghi", at(1)) == [AvailabilityChange("funghi", False, at(1))]
    assert result.withdraw("funghi", at(2)) == []
    result.supply("thyme", at(3), at(3), available=False)
    with pytest.raises(IngredientMissing, match="funghi cannot be restocked: the kitchen is out of thyme"):
        result.restore("funghi", at(4))
    assert result.supply("thyme", at(5), at(5), available=True) == [], "a person has taken it off"
    assert result.restore("funghi", at(6)) == [AvailabilityChange("funghi", True, at(6))]
    assert result.restore("funghi", at(7)) == []


def test_recipes_and_prices_are_published_a_single_time_for_every_change() -> None:
    result = menu()
    assert result.put(recipe("funghi", "thyme"), at(1)) is None
    assert result.reprice("funghi", 990, at(1)) is None
    assert result.reprice("funghi", 1090, at(1)) == at(1)
    assert result.put(recipe("funghi", "thyme"), at(2)) is not None
    assert result.item("funghi").recipe.price_cents == 990
    assert result.put(recipe("hawaii", "pineapple"), at(3)) is not None
    assert list(result.items) == ["margherita", "pesto", "funghi", "hawaii"]


def test_a_recipe_that_needs_what_is_missing_is_on_the_menu_but_cannot_be_had() -> None:
    result = menu()
    result.supply("truffle", at(1), at(1), available=False)
    result.put(recipe("tartufo", "truffle"), at(2))
    assert not result.available("tartufo")


@pytest.mark.parametrize("call", ["item", "missing", "available", "withdraw", "restore", "reprice"])
def test_what_is_not_on_the_menu_is_refused(call: str) -> None:
    arguments = {"withdraw": (NOW,), "restore": (NOW,), "reprice": (990, NOW)}.get(call, ())
    with pytest.raises(UnknownItem, match="'hawaii' is not on the menu"):
        getattr(menu(), call)("hawaii", *arguments)


CHANGES = st.tuples(st.sampled_from(["off", "on", "price", "basil", "put"]), st.integers(0, 1), st.integers(-3, 3))


@given(st.lists(CHANGES, max_size=30))
def test_every_change_of_a_pizza_is_dated_later_than_the_one_before(changes: list[tuple[str, int, int]]) -> None:
    """Readers put facts in order by their moments; the clock may go back and changes may be as one."""
    result, published, had = menu(), [NOW], True
    for number, (what, value, offset) in enumerate(changes):
        now, flips = at(offset), list[AvailabilityChange]()
        match what:
            case "off":
                flips = result.withdraw("pesto", now)
            case "on" if not result.missing("pesto"):
                flips = result.restore("pesto", now)
            case "basil":
                flips = result.supply("basil", at(number), now, available=bool(value))
            case "price" if since := result.reprice("pesto", 900 + value, now):
                published.append(since)
            case "put" if item := result.put(recipe("pesto", "basil", price=950 + value), now):
                published.append(item.changed_at)
        for flip in flips:
            if flip.sku == "pesto":
                assert flip.available is not had
                had = flip.available
                published.append(flip.since)
    assert published == sorted(set(published))
    assert had == result.available("pesto")
    assert msgspec.json.decode(msgspec.json.encode(result), type=Menu) == result
