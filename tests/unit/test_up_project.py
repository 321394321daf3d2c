"""`tidings.yaml`: how it is read, and how mistakes are reported."""

from pathlib import Path

import pytest

from tidings_cli.up import project
from tidings_cli.up.errors import ProjectError
from tidings_cli.up.references import fill

WHOLE = """\
name: shop
folders: [services/*]
services:
  - {name: orders, port: 8001, replicas: 2, environment: {LIMIT: 10}}
  - name: web
    folder: web
    command: [node, server.js]
    sidecar: false
programs:
  - {name: mail, command: [mail], ports: {smtp: 8025}}
"""


def shop(root: Path, text: str = WHOLE) -> Path:
    (root / "tidings.yaml").write_text(text)
    for name in ("menu", "orders"):
        main = root / "services" / name / "src" / name / "main.py"
        main.parent.mkdir(parents=True)
        main.touch()
    (root / "services" / "menu" / "contracts").mkdir()
    (root / "services" / "__pycache__").mkdir()
    (root / "web").mkdir()
    return root


def test_services_are_discovered_in_folders_and_listed_ones_come_first(tmp_path: Path) -> None:
    home = project.load(shop(tmp_path))
    assert [(service.name, service.folder, service.port) for service in home.services] == [
        ("orders", "services/orders", 8001),
        ("web", "web", None),
        ("menu", "services/menu", None),
    ]
    assert home.services[0].replicas == 2
    assert home.contracts == [tmp_path / "services/menu/contracts"]
    assert home.folder(home.services[1]) == tmp_path / "web"


@pytest.mark.parametrize(
    ("text", "place", "expected_text"),
    [
        ("name: shop\nport: 1\n", "2:1", "Unknown field port. Known: broker, components, "),
        ("name: shop\nservices:\n  - name: a\n    prot: 1\n", "4:5", "field services[0].prot. Did you mean 'port'?"),
        ("name: shop\nservices:\n  - name: a\n    port: many\n", "4:11", "services[0].port: expected int | null"),
        ("name: shop\nprograms:\n  - name: a\n", "3:5", "programs[0].command is missing"),
        ("name: shop\nprograms:\n  - {name: a, command: []}\n", "3:24", "command must not be empty"),
        ("name: shop\nservices:\n  - {name: Orders}\n", "3:12", "'Orders' is not a valid name"),
        ("name: shop\nservices:\n  - {name: a}\n  - {name: a}\n", "3:12", "the name a is not unique"),
        ("name: shop\nservices:\n  - {name: a, replicas: 0}\n", "3:25", "1 or more"),
        ("name: shop\nservices:\n  - {name: a, port: 70000}\n", "3:21", "70000 is not a port"),
        ("name: [shop\n", "2:1", "Invalid YAML"),
        ("name: shop\nname: shed\n", "2:1", "Duplicate field 'name'"),
        ("", "1:1", "write one YAML document"),
        ("name: shop\n---\nname: shed\n", "1:1", "write one YAML document"),
    ],
)
def test_a_mistake_is_reported_with_its_place(text: str, place: str, expected_text: str) -> None:
    with pytest.raises(ProjectError) as caught:
        project.parse(text, "tidings.yaml")
    assert str(caught.value).startswith(f"tidings.yaml:{place}: ")
    assert expected_text in str(caught.value)


def test_all_unknown_fields_are_reported_at_once() -> None:
    with pytest.raises(ProjectError) as caught:
        project.parse("name: shop\nport: 1\nservices:\n  - name: a\n    prot: 1\n", "tidings.yaml")
    assert [line.partition(" Unknown")[0] for line in str(caught.value).splitlines()] == [
        "tidings.yaml:2:1:",
        "tidings.yaml:5:5:",
    ]


@pytest.mark.parametrize(
    ("change", "expected_text"),
    [
        (("folder: web", "folder: wab"), "does not exist; correct its `folder:`"),
        (("    folder: web\n", ""), "service web: no folder in `folders` has this name"),
        (
            ("    command: [node, server.js]\n", ""),
            "src/web/main.py does not exist; create it, or set `module:` or `command:`",
        ),
    ],
)
def test_a_service_without_code_is_reported_before_anything_starts(
    tmp_path: Path, change: tuple[str, str], expected_text: str
) -> None:
    with pytest.raises(ProjectError, match="service web") as caught:
        check_web(shop(tmp_path, WHOLE.replace(*change)))
    assert expected_text in str(caught.value)


def test_a_folder_without_project_shows_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"tidings.yaml does not exist; change to the project's folder"):
        project.load(tmp_path)


def check_web(root: Path) -> None:
    home = project.load(root)
    project.check_code(home, home.services[1])


PORTS = {"orders": 8001, "mail.smtp": 8025, "orders.daprd.http": 3500}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("${port}/${port:orders}/${port:mail.smtp}", "9/8001/8025"),
        ("${url:orders}/menu", "http://127.0.0.1:8001/menu"),
        ("${env:HOME} costs $$5", "/home/me costs $5"),
    ],
)
def test_references(text: str, filled: str) -> None:
    assert fill(text, {"port": "9"}, PORTS, {"HOME": "/home/me"}, where="x") == filled


@pytest.mark.parametrize(
    ("text", "expected_text"),
    [
        ("${port:order}", r"PONG of ping: \$\{port:order\} is unknown; names with ports: mail.smtp, orders$"),
        ("${env:NOT_SET}", r"\$\{env:NOT_SET\} is unknown"),
        ("${data}", r"\$\{data\} is unknown"),
        ("$HOME", "write `\\$\\$` for a dollar"),
    ],
)
def test_a_reference_to_nothing_is_an_error(text: str, expected_text: str) -> None:
    with pytest.raises(ProjectError, match=expected_text):
        fill(text, {"port": "9"}, PORTS, {}, where="PONG of ping")
