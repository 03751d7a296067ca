from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from theory_api.settings import VARIABLES, PostgresUrl, Settings, assets, read
from theory_core import TheoryError


def test_the_command_line_goes_before_the_environment_and_the_environment_before_defaults() -> None:
    environ = {"THEORY_HOME": "/srv/theory", "THEORY_PARALLEL": "2"}
    assert read({}).home == Path(".theory").absolute()
    assert read(environ).home == Path("/srv/theory")
    assert read(environ, home="/tmp/h").home == Path("/tmp/h")  # noqa: S108 - never opened
    assert read(environ, home=None).parallel == 2


def test_the_database_lies_in_the_home_unless_it_is_named() -> None:
    assert read({}, home="/srv/t").database == Path("/srv/t/theory.db")
    assert read({}, database_url="sqlite:////var/t.db").database == Path("/var/t.db")
    assert read({}, database_url="sqlite:///t%20x.db").database == Path("t x.db").absolute()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("THEORY_DATABASE_URL", "mysql://u:hunter2@db/x"),
        ("THEORY_DATABASE_URL", "postgresql://u:hunter2@db"),
        ("THEORY_DATABASE_URL", "postgresql://u:hunter2@db:port/x"),
        ("THEORY_DATABASE_URL", "sqlite://"),
        ("THEORY_LOG", "loud"),
        ("THEORY_LANE", "prod"),
        ("THEORY_PARALLEL", "0"),
        ("THEORY_PARALLEL", "many"),
        ("CI", "perhaps"),
        ("THEORY_GATEWAY_LISTEN", "8000"),
        ("THEORY_GATEWAY_LISTEN", "127.0.0.1:port"),
        ("THEORY_GATEWAY_LISTEN", "127.0.0.1:70000"),
        ("THEORY_HEALTH_S", "0"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(variable: str, value: str) -> None:
    with pytest.raises(TheoryError) as caught:
        read({variable: value})
    assert caught.value.code == "ERR_INPUTS"
    assert caught.value.detail["variable"] == variable
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "ci"), [("true", True), ("1", True), ("", False), ("false", False), ("0", False)]
)
def test_ci_is_read_from_its_usual_variable(value: str, ci: bool) -> None:  # noqa: FBT001
    assert read({"CI": value}).ci is ci


def test_a_person_at_a_terminal_sees_errors_only() -> None:
    assert read({}).log_level == "info"
    assert read({}, interactive=True).log_level == "error"
    assert read({"THEORY_LOG": "debug"}, interactive=True).log_level == "debug"


@pytest.mark.scenario(95)
def test_a_server_s_password_is_in_nothing_that_is_shown() -> None:
    given = "postgresql://u:hunter2@db:5433/theory?sslmode=require&password=hunter2"
    settings = read({"THEORY_DATABASE_URL": given})
    assert isinstance(settings.database, PostgresUrl)
    assert settings.database.url == given
    assert settings.resolved()["database"] == "postgresql://u@db:5433/theory"
    assert "hunter2" not in f"{settings!r} {settings.resolved()}"


def test_every_variable_belongs_to_a_setting() -> None:
    names = {field.name for field in dataclasses.fields(Settings)} | {"database_url"}
    assert set(VARIABLES) <= names
    assert len({variable for variable, _ in VARIABLES.values()}) == len(VARIABLES)


def test_the_resolved_record_is_flat_and_complete() -> None:
    record = read({"OPENAI_API_KEY": "zzzz9999"}).resolved()
    names = {field.name for field in dataclasses.fields(Settings)}
    assert set(record) == names - {"environment", "modal_key", "modal_secret"}
    assert all(isinstance(value, str | int | bool) for value in record.values())


def test_assets_lie_in_the_checkout_that_the_code_runs_from() -> None:
    assert (assets("registry") / "processors").is_dir()
    assert (assets("migrations")).is_dir()


def test_the_environment_is_kept_for_secrets_and_shown_nowhere() -> None:
    settings = read({"OPENAI_API_KEY": "zzzz9999"})
    assert settings.environment["OPENAI_API_KEY"] == "zzzz9999"
    assert "zzzz9999" not in repr(settings)
    assert "zzzz9999" not in repr(settings.resolved())


def test_credentials_of_a_proxy_are_in_no_record_of_the_settings() -> None:
    settings = read({"THEORY_MODAL_KEY": "wk-canary", "THEORY_MODAL_SECRET": "ws-canary"})
    assert settings.modal_secret == "ws-canary"  # noqa: S105 - made up
    assert "canary" not in repr(settings)
    assert "canary" not in str(settings.resolved())


def test_apps_in_the_cloud_are_named_after_their_owner_but_for_those_of_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/topic/One\n")
    monkeypatch.chdir(folder)
    assert read({"USER": "Ada"}).modal_owner == "ada-topic-one"
    assert read({"USER": "Ada", "CI": "true"}).modal_owner == ""
    assert read({"USER": "Ada", "THEORY_MODAL_OWNER": "team"}).modal_owner == "team"
    (tmp_path / ".git" / "HEAD").write_text("0" * 40)
    assert read({}).modal_owner == "somebody-detached"
