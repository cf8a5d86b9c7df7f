"""Drivers that ship, and drivers as users name them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from midstream._errors import SetupError, UsageError
from midstream._registry import names
from midstream.drivers import CommandDriver, Job
from midstream.drivers._spec import require, resolve
from midstream.testing.drivers import DriverContract, job_fields


class TestReknit(DriverContract):
    driver = "reknit"


class TestGateway(DriverContract):
    driver = "gateway"


class TestReknitParallel(DriverContract):
    driver = "reknit-parallel"


class TestReknitRandom(DriverContract):
    driver = "reknit-random"


class TestReknitIetf(DriverContract):
    driver = "reknit-ietf"


class TestReknitPut(DriverContract):
    driver = "reknit-put"


class TestGlanceStock(DriverContract):
    driver = "glance-stock"


class TestGlanceReknit(DriverContract):
    driver = "glance-reknit"


class TestCurl(DriverContract):
    driver = "cmd:curl -sSf -o {dest} {url}"


class TestFunction(DriverContract):
    driver = f"py:{Path(__file__).with_name('sound.py')}:download"


class TestBoto3(DriverContract):
    """boto3's transfer manager."""

    driver = "boto3"
    store = "moto"


def test_job_goes_through_json() -> None:
    """A job is the same on both ends of the pipe."""
    fields = job_fields()
    assert Job.from_json(json.loads(json.dumps(fields))).as_json() == fields


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ("nope", UsageError, "no driver is called 'nope'"),
        ("reknot", UsageError, "did you mean reknit"),
        ("", UsageError, "no driver is called ''"),
        ("curl -o {dest} {url}", UsageError, "for a command line write 'cmd:curl -o {dest} {url}'"),
        ("cmd:", UsageError, "there is no command behind the colon"),
        ("cmd:curl -o {dest} {urll}", UsageError, "no placeholder {urll}; did you mean {url}?"),
        (
            "cmd:curl -o {dest} {url} {output}",
            UsageError,
            "no placeholder {output}; for braces of the command's own write {{output}} (known: {url}, {de",
        ),
        ("cmd:curl ${dest} {url}", UsageError, "the command has no {dest}"),
        ("cmd:curl {url}", UsageError, "the command has no {dest}"),
        ("cmd:curl 'x {dest}", UsageError, "No closing quotation"),
        (
            "cmd:no-such-program {dest}",
            SetupError,
            "the command 'no-such-program' does not exist or cannot be",
        ),
        (
            "cmd:/etc/passwd {dest}",
            SetupError,
            "the command '/etc/passwd' does not exist or cannot be executed",
        ),
        ("py:", UsageError, "use py:MODULE:FUNCTION"),
        ("py:json", UsageError, "use py:MODULE:FUNCTION"),
        ("py:json:", UsageError, "use py:MODULE:FUNCTION"),
        ("py:no_such_module:f", SetupError, "no module 'no_such_module' can be imported"),
        ("py:no.such.module:f", SetupError, "no module 'no.such.module' can be imported"),
        ("py:__main__.x:f", SetupError, "no module '__main__.x' can be imported"),
        ("py:/no/such/file.py:f", SetupError, "no file '/no/such/file.py'"),
    ],
)
def test_bad_names(spec: str, error: type[Exception], text: str) -> None:
    """What cannot be a driver, or cannot run here, is said in one line."""
    with pytest.raises(error) as caught:
        require(resolve(spec))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_package_that_breaks_on_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for a module can run its package; whatever that does, the driver is just not available."""
    (tmp_path / "breaks").mkdir()
    (tmp_path / "breaks" / "__init__.py").write_text("raise RuntimeError('no')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not resolve("py:breaks.inner:f").available().available


def test_names_that_a_module_makes(tmp_path: Path) -> None:
    """A function that is only there once the module has run is in no source; a slip of spelling is told."""
    path = tmp_path / "made.py"
    path.write_text("globals().update({'a_client': print})")
    assert resolve(f"py:{path}:a_client").available().available
    path.write_text("def a_client(job): ...")
    assert "defines no 'a_cleint'" in resolve(f"py:{path}:a_cleint").available().reason


def test_command_fills_its_places(tmp_path: Path) -> None:
    """Each place is filled where it stands, in one word, whatever is in it."""
    driver = resolve("cmd:x --to={dest} '{url} {native}' {kind} {{other}}")
    assert isinstance(driver, CommandDriver)
    job = Job(tmp_path / "a b", "s3", "http://h/?a=1&b=$x", "s3://b/k")
    assert driver.command(job) == [
        "x",
        f"--to={tmp_path}/a b",
        "http://h/?a=1&b=$x s3://b/k",
        "s3",
        "{other}",
    ]


@pytest.mark.parametrize(
    ("word", "given"),
    [
        ("{print}", "{print}"),
        ("{ print $1 }", "{ print $1 }"),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ("${name}", "${name}"),
        ("%{http_code}", "%{http_code}"),
        ("%{url}", "%{url}"),
        ("{}", "{}"),
        ("{a,b}", "{a,b}"),
        ("{Name}", "{Name}"),
        ("{{name}}", "{name}"),
        ("{{url}}", "{url}"),
        ("a{kind}b", "as3b"),
    ],
)
def test_braces_of_a_command(word: str, given: str) -> None:
    """What is no placeholder stays as it is, and doubled braces become single ones."""
    driver = resolve(f"cmd:x {{dest}} {shlex.quote(word)}")
    assert isinstance(driver, CommandDriver)
    assert driver.command(Job(Path("/x/object"), "s3", "u", "n"))[-1] == given


def test_paths_of_a_command_are_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command runs in the folder of its result, but ./script is the one where the user stands."""
    script = tmp_path / "get"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    driver = resolve("cmd:./get ./get get {dest}")
    assert isinstance(driver, CommandDriver)
    assert require(driver).available
    job = Job(Path("/x/object"), "http", "u", "u")
    assert driver.command(job) == [str(script), str(script), "get", "/x/object"]


def test_members_are_covered() -> None:
    """Drivers that are meant to be right keep the contract; those meant to be caught are named here."""
    held = {c.driver for c in DriverContract.__subclasses__()}
    assert {"naive"} == {n for n in names("drivers") if n not in held and resolve(n).available().available}
