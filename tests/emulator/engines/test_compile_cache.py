"""Where compiled kernels are kept: nobody else can write there, what was changed is compiled again, nobody hangs.

Covers: emulator/engines/cache_place
"""

import fcntl
import os
import shutil
import subprocess
import sys

import pytest
from command import COMMAND, ENVIRONMENT
from support import ROOT

from emulator.engines import compile_cache

EXPLORE = ["explore", "claim/zero-is-absorbing", "--bound", "0"]
COMPILING = "ptelab: compiling the kernels"


def start(home):
    """An exploration, which compiles what reads its log, with its cache in a directory."""
    return subprocess.Popen(
        [*COMMAND, *EXPLORE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "XDG_CACHE_HOME": str(home)},
        cwd=ROOT,
    )


def explore(home):
    """Its status, whether it said that it compiles, what else it said on stderr."""
    process = start(home)
    out, err = process.communicate(timeout=300)
    said = [line for line in err.splitlines() if not line.startswith(COMPILING) and " % " not in line]
    assert "result  PASS" in out, err
    return process.returncode, COMPILING in err, said


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that one exploration has filled."""
    home = tmp_path_factory.mktemp("home")
    assert explore(home) == (0, True, [])
    return home


@pytest.fixture
def copied(filled, tmp_path):
    """A copy of it, to be spoilt."""
    return shutil.copytree(filled, tmp_path / "home")


def code_of(home):
    """The files of compiled code in a cache."""
    files = sorted((home / "ptelab").rglob("*.nb[ci]"))
    assert files
    return files


def test_a_second_start_loads_what_the_first_has_compiled(filled):
    assert explore(filled) == (0, False, [])


def test_a_bit_that_was_flipped_is_noticed_and_all_is_compiled_again(copied):
    for file in code_of(copied):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)

    assert explore(copied) == (0, True, [])
    assert explore(copied) == (0, False, [])


@pytest.mark.parametrize("spoil", [lambda file: os.truncate(file, 10), os.unlink, lambda file: os.truncate(file, 0)])
def test_what_was_truncated_or_is_gone_is_noticed(copied, spoil):
    (cache,) = (path for path in (copied / "ptelab").iterdir() if path.is_dir())
    assert compile_cache.is_complete(cache)

    spoil(code_of(copied)[-1])

    assert not compile_cache.is_complete(cache)


def test_of_two_first_compilations_at_once_one_waits_for_the_other(tmp_path):
    both = [start(tmp_path) for _ in range(2)]

    for process in both:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, "result  PASS" in out) == (0, True), err
    caches = [path for path in (tmp_path / "ptelab").iterdir() if path.is_dir()]
    assert len(caches) == 1
    assert compile_cache.is_complete(caches[0])


def test_a_lock_whose_file_somebody_took_away_is_taken_anew(tmp_path, monkeypatch):
    file, flock = tmp_path / "x.lock", fcntl.flock

    def after_its_file_went(lock, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        file.unlink()
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", after_its_file_went)

    with compile_cache._take(tmp_path / "x") as lock:
        assert os.path.samestat(os.fstat(lock.fileno()), file.stat())


def test_who_fills_for_ever_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "FILLER_SECONDS", 0.0)
    cache = tmp_path / "x"
    with open(tmp_path / "x.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711\n")
        lock.flush()

        filling = compile_cache.filling(cache)
        with pytest.raises(TimeoutError, match=r"process 4711 has been filling .* is it stopped"):
            filling.__enter__()


def test_the_caches_used_last_are_kept_and_none_that_is_being_filled_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "_KEPT", 1)
    for age, name in enumerate(("filled", "old", "recent")):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (age, age))

    with open(tmp_path / "filled.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with compile_cache.filling(tmp_path / "new"):
            pass

    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["filled", "new", "recent"]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o757])
@pytest.mark.parametrize("where", ["ptelab", "."])
def test_a_cache_that_others_may_write_to_is_not_used_and_that_is_said_once(tmp_path, mode, where):
    home = tmp_path / "home"
    (home / "ptelab").mkdir(parents=True, mode=0o700)
    spoilt = (home / where).resolve()
    spoilt.chmod(mode)
    environment = {**ENVIRONMENT, "XDG_CACHE_HOME": str(home), "TMPDIR": str(tmp_path)}
    code = "from emulator.engines import compile_cache as c; print(c.directory()); print(c.remark)"

    run = subprocess.run([COMMAND[0], "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)

    chosen, remark = run.stdout.splitlines()
    assert chosen.startswith(f"{tmp_path}/ptelab-cache-")
    assert remark == f"others may write to {spoilt}: compiled kernels are not kept there"
    assert os.listdir(home / "ptelab") == []


@pytest.mark.stress  # which places are not safe is said above, without a compilation
def test_where_there_is_no_safe_place_a_run_compiles_for_itself_says_so_once_and_leaves_nothing(tmp_path):
    (tmp_path / "ptelab").mkdir(mode=0o700)
    tmp_path.chmod(0o777)
    process = subprocess.Popen(
        [*COMMAND, *EXPLORE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        cwd=ROOT,
    )
    out, err = process.communicate(timeout=300)

    assert (process.returncode, "result  PASS" in out) == (0, True), err
    assert err.count("others may write to") == 2  # of the two places, in one line
    assert len([line for line in err.splitlines() if "others may write" in line]) == 1
    assert "what is compiled is not kept" in err
    assert [path for path in tmp_path.rglob("*.nb?") if path.is_file()] == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_not_trusted(tmp_path):
    os.chown(tmp_path, 12345, -1)

    said = f"{tmp_path} belongs to user 12345: compiled kernels are not kept there"
    assert compile_cache.who_else_may_write(tmp_path) == said
    (tmp_path / "mine").mkdir()
    assert compile_cache.who_else_may_write(tmp_path / "mine") == said


def test_a_directory_under_a_sticky_one_is_trusted(tmp_path):
    mine = tmp_path / "sticky" / "mine"
    mine.mkdir(parents=True, mode=0o700)
    mine.parent.chmod(0o1777)

    assert compile_cache.who_else_may_write(mine) is None
    mine.parent.chmod(0o777)
    assert (
        compile_cache.who_else_may_write(mine)
        == f"others may write to {mine.parent}: compiled kernels are not kept there"
    )


def test_the_key_is_the_contents_wherever_they_lie_and_whenever_written(tmp_path):
    """The directory's name is the key: under another name nothing is complete, under the same all is."""
    for part in ("emulator", "workers"):
        shutil.copytree(ROOT / part, tmp_path / part)
    command = [sys.executable, "-c", "from emulator.engines import compile_cache as c; print(c.key(c.KERNELS))"]
    called = tmp_path / "emulator" / "tables" / "rcu.py"

    def key():
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True).stdout

    before = key()
    assert before == subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    os.utime(called, (0, 0))
    assert key() == before
    called.write_text(called.read_text().replace("rcu_nesting[cpu] += 1", "rcu_nesting[cpu] += 2"))
    assert key() != before


@pytest.mark.stress
def test_preparing_knows_all_kernels_that_python_calls_whoever_imports_them():
    prepare = "from emulator import engine; engine.prepare(); from emulator.engines import native"
    names = "print(*native._program._kernels)"
    command = [sys.executable, "-c", f"{prepare}; {names}"]

    run = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, timeout=300)

    assert "run_cpu" in run.stdout.split(), run.stderr
