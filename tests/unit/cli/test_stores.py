"""Which store a command uses: first match wins."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from calico.cli.main import root
from calico.cli.stores import Choice, Location, WrongStore, locate, open_store
from calico.datastore.etcd_settings import EtcdSettings
from calico.datastore.location import Datastore


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "CALICO_DATA_DIR": str(tmp_path / "data"),
        "CALICO_RUN_DIR": str(tmp_path / "run"),
        "CALICO_CONFIG_DIR": str(tmp_path / "etc"),
    }


def _lab(tmp_path: Path, name: str) -> Path:
    database = tmp_path / "run" / "lab" / name / "calico.db"
    database.parent.mkdir(parents=True)
    database.touch()
    return database


def _host(tmp_path: Path) -> Path:
    database = tmp_path / "data" / "calico.db"
    database.parent.mkdir(parents=True)
    database.touch()
    return database


def test_a_lab_by_name_comes_before_everything(tmp_path: Path, environment: dict[str, str]) -> None:
    """--lab wins over the environment."""
    lab = _lab(tmp_path, "one")
    found = locate(Choice(lab="one"), {**environment, "DATASTORE_TYPE": "sqlite"})
    assert found.store.file == lab


def test_a_lab_that_is_not_there_is_an_error_that_lists_those_that_are(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """A wrong --lab names the running labs."""
    _lab(tmp_path, "one")
    with pytest.raises(click.UsageError, match="running: one"):
        locate(Choice(lab="two"), environment)


def test_a_flag_comes_before_the_environment(environment: dict[str, str]) -> None:
    """--datastore-path wins over CALICO_SQLITE_PATH."""
    assert locate(Choice(path="/a.db"), {**environment, "CALICO_SQLITE_PATH": "/b.db"}).store.file == Path(
        "/a.db"
    )


def test_the_environment_comes_before_the_configuration_file(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """CALICO_SQLITE_PATH wins over calicoctl.cfg."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "calicoctl.cfg").write_text(
        "kind: CalicoAPIConfig\nspec: {datastoreType: sqlite, sqlitePath: /c.db}\n"
    )
    assert locate(Choice(), environment).store.file == Path("/c.db")
    assert locate(Choice(), {**environment, "CALICO_SQLITE_PATH": "/b.db"}).store.file == Path("/b.db")


_FILE = (
    "kind: CalicoAPIConfig\nspec: {etcdEndpoints: 'http://file:1', etcdUsername: u, etcdPassword: of-file}\n"
)


def _etcd(location: Location) -> tuple[str, str, str]:
    """Endpoint, user and password."""
    settings = location.store.where
    assert isinstance(settings, EtcdSettings)
    return str(settings.endpoints[0]), settings.username, settings.password


@pytest.mark.parametrize(
    ("choice", "more", "meant"),
    [
        (Choice(), {}, ("http://file:1", "u", "of-file")),
        (Choice(), {"ETCD_PASSWORD": "p"}, ("http://file:1", "u", "p")),
        (Choice(), {"DATASTORE_TYPE": "etcdv3"}, ("http://file:1", "u", "of-file")),
        (Choice(), {"ETCD_ENDPOINTS": "http://env:1"}, ("http://env:1", "", "")),
        (
            Choice(),
            {"ETCD_ENDPOINTS": "http://env:1", "ETCD_USERNAME": "e", "ETCD_PASSWORD": "p"},
            ("http://env:1", "e", "p"),
        ),
        (Choice(endpoints="http://flag:1"), {"ETCD_ENDPOINTS": "http://env:1"}, ("http://flag:1", "", "")),
        (
            Choice(endpoints="http://flag:1"),
            {"DATASTORE_TYPE": "sqlite", "ETCD_USERNAME": "e", "ETCD_PASSWORD": "p"},
            ("http://flag:1", "e", "p"),
        ),
        (
            Choice(config="etc/calicoctl.cfg"),
            {"ETCD_ENDPOINTS": "http://env:1", "ETCD_PASSWORD": "p"},
            ("http://file:1", "u", "of-file"),
        ),
    ],
    ids=str,
)
def test_which_source_says_what_about_etcd(
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    choice: Choice,
    more: dict[str, str],
    meant: tuple[str, str, str],
) -> None:
    """A password is never sent to endpoints that another source named, but for one in the environment to the file's."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "calicoctl.cfg").write_text(_FILE)
    monkeypatch.chdir(tmp_path)
    assert _etcd(locate(choice, {**environment, **more})) == meant


def test_sqlite_in_the_environment_comes_before_etcd_in_the_file(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """The type alone is enough: its place is the host's own file."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "calicoctl.cfg").write_text(_FILE)
    found = locate(Choice(), {**environment, "DATASTORE_TYPE": "sqlite"})
    assert found.store.file == tmp_path / "data" / "calico.db"
    assert found.reason == "the environment (DATASTORE_TYPE=sqlite)"


def test_felix_words_count_for_the_agent_alone(tmp_path: Path, environment: dict[str, str]) -> None:
    """calicoctl beside Calico's agent goes on as Calico's does; flags need no felix.cfg that can be read."""
    words = {**environment, "FELIX_ETCDENDPOINTS": "http://felix:1", "DATASTORE_TYPE": "kubernetes"}
    assert _etcd(locate(Choice(), words, agent=True))[0] == "http://felix:1"
    assert locate(Choice(), {**words, "DATASTORE_TYPE": "sqlite"}).store.file is not None
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "felix.cfg").write_text("[global]\nEtcdAddr = cfg:1\n")
    assert _etcd(locate(Choice(), environment, agent=True))[0] == "http://cfg:1"
    assert locate(Choice(), environment).store.file is not None
    (tmp_path / "etc" / "felix.cfg").write_bytes(b"\xff")
    with pytest.raises(WrongStore, match=r"felix\.cfg: byte 0 is not UTF-8"):
        locate(Choice(), environment, agent=True)
    assert locate(Choice(path="/a.db"), environment, agent=True).store.file == Path("/a.db")


def test_the_reason_shows_no_secret(environment: dict[str, str]) -> None:
    """Whatever variable decided, its name is enough where its value may hold a password."""
    found = locate(Choice(), {**environment, "ETCD_ENDPOINTS": "http://a:1"})
    assert found.reason == "the environment (ETCD_ENDPOINTS)"
    with pytest.raises(WrongStore) as refusal:
        locate(Choice(), {**environment, "ETCD_ENDPOINTS": "http://root:hush@a:1"})
    assert "hush" not in str(refusal.value)


def test_a_lab_may_say_where_its_store_is(tmp_path: Path, environment: dict[str, str]) -> None:
    """A calicoctl.cfg in its directory counts more than a database there, and makes it a running lab."""
    directory = tmp_path / "run" / "lab" / "one"
    directory.mkdir(parents=True)
    (directory / "calicoctl.cfg").write_text(_FILE)
    assert _etcd(locate(Choice(lab="one"), environment))[0] == "http://file:1"
    found = locate(Choice(), environment)
    assert (_etcd(found)[0], found.notice) == (
        "http://file:1",
        "using the store of lab 'one', the only one running",
    )


def test_two_stores_on_one_command_line_are_refused(environment: dict[str, str]) -> None:
    """One of them would be silently ignored."""
    with pytest.raises(WrongStore, match="--datastore-path and --etcd-endpoints name two stores"):
        locate(Choice(path="/a.db", endpoints="http://a:1"), environment)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("kubernetes", "not supported yet"), ("etcdv3", "no endpoint of etcd is named"), ("redis", "known are")],
)
def test_a_store_that_cannot_be_used_is_refused_with_the_reason(
    environment: dict[str, str], kind: str, sentence: str
) -> None:
    """DATASTORE_TYPE of another kind never falls back to SQLite silently."""
    with pytest.raises(click.UsageError, match=sentence):
        locate(Choice(), {**environment, "DATASTORE_TYPE": kind})


def test_an_existing_database_of_the_host_comes_before_a_lab(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """A host that has a store uses it, whatever labs run; as that may not be what is meant, a person is told."""
    host = _host(tmp_path)
    assert locate(Choice(), environment) == (Datastore(host), "default", "")
    _lab(tmp_path, "one")
    found = locate(Choice(), environment)
    assert found.store.file == host
    assert found.notice == f"using {host}; --lab one uses the running lab's store"


def test_the_only_lab_is_used_and_that_is_said(tmp_path: Path, environment: dict[str, str]) -> None:
    """With nothing else there, the one running lab is meant; a person is told."""
    lab = _lab(tmp_path, "one")
    found = locate(Choice(), environment)
    assert (found.store.file, found.notice) == (lab, "using the store of lab 'one', the only one running")
    assert "'one'" in found.reason


def test_several_labs_are_an_error_that_lists_them(tmp_path: Path, environment: dict[str, str]) -> None:
    """Guessing between labs would be wrong half of the time."""
    _lab(tmp_path, "one")
    _lab(tmp_path, "two")
    with pytest.raises(click.UsageError, match="one, two"):
        locate(Choice(), environment)


def test_with_nothing_there_a_new_database_is_made(tmp_path: Path, environment: dict[str, str]) -> None:
    """The last resort is a new file in the data directory."""
    assert locate(Choice(), environment).store.file == tmp_path / "data" / "calico.db"


def test_a_configuration_file_that_is_no_configuration_is_refused(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """A wrong file is named, not skipped."""
    wrong = tmp_path / "wrong.cfg"
    wrong.write_text("kind: Other\n")
    with pytest.raises(click.UsageError, match=r"wrong\.cfg"):
        locate(Choice(config=str(wrong)), environment)


@pytest.mark.parametrize(
    "choice", [Choice(lab=""), Choice(path=""), Choice(config=""), Choice(endpoints="")], ids=str
)
def test_an_empty_value_is_refused(environment: dict[str, str], choice: Choice) -> None:
    """An unset variable in a script must not lead to the store of another place."""
    with pytest.raises(click.UsageError, match="its value is empty"):
        locate(choice, environment)


def test_what_stands_after_the_command_comes_before_what_stands_before_it() -> None:
    """calicoctl --lab a get --lab b means b, whatever option each of them is."""
    assert Choice(lab="b").over(Choice(lab="a", config="c")) == Choice(lab="b")
    assert Choice(path="b").over(Choice(lab="a")) == Choice(path="b")
    assert Choice().over(Choice(lab="a")) == Choice(lab="a")
    assert Choice(lab="").over(Choice(lab="a")) == Choice(lab="")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kind: CalicoAPIConfig\nspec: 7\n", "spec: a mapping is expected"),
        ("kind: CalicoAPIConfig\nspec: {datastoreType: sqlite, sqlitePath: 7}\n", "text is expected"),
        ("kind: CalicoAPIConfig\n", "no store is named"),
        ("a: b: c\n", "put the whole value in quotes"),
        ("\udcff", "not UTF-8"),
    ],
    ids=repr,
)
def test_a_configuration_file_is_read_strictly(
    tmp_path: Path, environment: dict[str, str], text: str, sentence: str
) -> None:
    """The file and what is wrong with it are named."""
    file = tmp_path / "calicoctl.cfg"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(WrongStore, match=sentence) as refusal:
        locate(Choice(config=str(file)), environment)
    assert str(file) in str(refusal.value)


def test_a_directory_is_no_store(tmp_path: Path) -> None:
    """Nor is anything below a file; both are said before anything is opened."""
    (tmp_path / "file").touch()
    with pytest.raises(WrongStore, match="is a directory"):
        open_store(Location(Datastore(tmp_path), "a test"))
    with pytest.raises(WrongStore, match="is a file, not a directory"):
        open_store(Location(Datastore(tmp_path / "file" / "deeper" / "calico.db"), "a test"))


def test_commands_of_the_agent_need_no_store(tmp_path: Path, environment: dict[str, str]) -> None:
    """Several labs, or a store that cannot be used, are no reason to refuse the agent's status."""
    _lab(tmp_path, "one")
    _lab(tmp_path, "two")
    result = CliRunner().invoke(root, ["agent", "status"], env=environment)
    assert (result.exit_code, "no agent runs here" in result.stderr) == (1, True)
    assert "several labs" in CliRunner().invoke(root, ["get", "nodes"], env=environment).stderr


@pytest.mark.parametrize(
    "words",
    [["apply"], ["get"], ["delete"], ["agent"], ["agent", "status"], ["completion"], ["version"]],
    ids=str,
)
def test_help_has_an_example_and_the_exit_status(words: list[str]) -> None:
    """Each command's help is all that a person needs."""
    shown = CliRunner().invoke(root, [*words, "--help"]).stdout
    assert "Example" in shown
    assert f"calicoctl {words[0]}" in shown
    assert "Exit status: 0" in shown
