from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tidings.brokers.components import ComponentError, render

SETS = Path(__file__).parents[2] / "components"
VALUES = {
    "NATS_URL": "nats://127.0.0.1:4222",
    "REDIS_HOST": "127.0.0.1:6379",
    "REDIS_PASSWORD": "",
    "RABBITMQ_URL": "amqp://127.0.0.1",
    "KAFKA_BROKERS": "127.0.0.1:9092",
    "KAFKA_AUTH": "none",
    "KAFKA_USER": "",
    "KAFKA_PASSWORD": "",
    "KAFKA_DISABLE_TLS": "true",
    "STATE_FILE": "/var/lib/orders.db",
    "POSTGRES_URL": "postgres://127.0.0.1/orders",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def component(folder: Path, value: str, name: str = "pubsub.yaml") -> Path:
    document = {"kind": "Component", "spec": {"metadata": [{"name": "url", "value": value}]}}
    (folder / name).write_text(yaml.safe_dump(document))
    return folder


def settings(document: dict[str, object]) -> dict[str, object]:
    spec = document["spec"]
    assert isinstance(spec, dict)
    return {item["name"]: item["value"] for item in spec["metadata"]}


@pytest.mark.parametrize("name", sorted(path.name for path in SETS.iterdir() if path.is_dir()))
def test_every_set_renders_to_one_component_of_strings(name: str) -> None:
    (rendered,) = render(SETS / name, VALUES, ["orders", "kitchen"])
    assert rendered["metadata"]["name"] == ("state" if name.startswith("state-") else "pubsub")
    assert rendered["scopes"] == ["orders", "kitchen"]
    assert all(isinstance(value, str) and "$" not in value for value in settings(rendered).values())


def test_every_value_that_a_set_sets_is_explained() -> None:
    readme = (SETS / "README.md").read_text()
    for file in SETS.glob("*/*.yaml"):
        for name in settings(yaml.safe_load(file.read_text())):
            assert f"`{name}`" in readme, f"{file.parent.name} sets {name}: say why in components/README.md"


def test_without_scopes_every_app_may_use_it(folder: Path) -> None:
    assert "scopes" not in render(component(folder, "x"), {})[0]


@pytest.mark.parametrize("value", ["p$w: #", "a\nb", "{appID}", '"', "*x", "${OTHER}"])
def test_a_value_may_hold_anything(value: str, folder: Path) -> None:
    (rendered,) = render(component(folder, "before ${URL} $$ {appID}"), {"URL": value, "UNUSED": "x"})
    assert settings(rendered) == {"url": f"before {value} $ {{appID}}"}


def test_a_missing_value_is_named_with_its_place(folder: Path) -> None:
    with pytest.raises(ComponentError, match=r"pubsub\.yaml url asks for URL, which has no value"):
        render(component(folder, "${URL}"), {})


def test_several_files_and_documents_make_one_set(folder: Path) -> None:
    component(folder, "second", name="b.yaml")
    first = component(folder, "first", name="a.yaml") / "a.yaml"
    first.write_text(f"{first.read_text()}---\n{first.read_text()}")
    assert [settings(document)["url"] for document in render(folder, {})] == ["first", "first", "second"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("kind: [", "is not YAML"),
        ("kind: Subscription", "no Dapr Component"),
        ("- 1", "no Dapr Component"),
        ("{kind: Component, spec: {x: 5 $ a}}", "5 \\$ a"),
    ],
)
def test_a_malformed_set_is_an_error_that_names_the_file(text: str, error: str, folder: Path) -> None:
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(ComponentError, match=rf"bad\.yaml.*{error}"):
        render(folder, {})


def test_a_folder_without_components_is_an_error(folder: Path) -> None:
    with pytest.raises(ComponentError, match="holds no component"):
        render(folder / "missing", {})
