"""A PostgreSQL cluster in a temporary directory, for as long as a test runs."""

import csv
import glob
import io
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def postgres_program(name):
    """The newest version that Debian has put beside one another, or what is on PATH."""
    candidates = glob.glob(f"/usr/lib/postgresql/*/bin/{name}")
    newest = max(candidates, key=lambda path: int(path.split("/")[4]), default=None)
    return newest or shutil.which(name) or name


class SQLError(Exception):
    pass


class Cluster:
    """Nothing is synced: it is as fast as a cluster on a disk can be, and gone after the test.

    `directory` keeps the data where they are instead, for a measurement that takes long to seed.
    """

    def __init__(self, directory=None, settings=()):
        self.is_temporary = directory is None
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix="pop-deploy-postgres-"))
        self.directory.mkdir(exist_ok=True)
        # As root the server runs as somebody else, who must be let in.
        self.account = None
        if os.getuid() == 0:
            self.account = "postgres" if self._has_account("postgres") else "nobody"
            shutil.chown(self.directory, self.account)
        data = self.directory / "data"
        options = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=",
                   f"unix_socket_directories={self.directory}", "timezone=UTC", "log_timezone=UTC",
                   "max_connections=50", *settings]
        if not data.exists():
            self._run([postgres_program("initdb"), f"--pgdata={data}", "--username=pop", "--auth=trust",
                       "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
        with open(self.directory / "log", "a") as log:
            self.server = subprocess.Popen(
                [postgres_program("postgres"), "-D", str(data)] + [part for o in options for part in ("-c", o)],
                cwd=self.directory, user=self.account, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT)
        ready = [postgres_program("pg_isready"), "-h", str(self.directory), "-q"]
        for _ in range(600):
            if subprocess.run(ready).returncode == 0:
                break
            if self.server.poll() is not None:
                break
            try:
                self.server.wait(0.1)
            except subprocess.TimeoutExpired:
                pass
        else:
            raise SQLError("the server does not answer: " + self.log())

    @staticmethod
    def _has_account(name):
        try:
            return bool(pwd.getpwnam(name))
        except KeyError:
            return False

    def _run(self, arguments):
        result = subprocess.run(arguments, cwd=self.directory, user=self.account, capture_output=True, text=True)
        if result.returncode != 0:
            raise SQLError(result.stderr)

    def log(self):
        return (self.directory / "log").read_text()[-4_000:]

    def url(self, database="pop", user="pop"):
        return f"postgresql://{user}@/{database}?host={self.directory}"

    def close(self):
        # SIGINT is PostgreSQL's fast shutdown.
        self.server.send_signal(2)
        self.server.wait()
        if self.is_temporary:
            shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def run_sql(url, sql, variables=None):
    """Runs a script; the standard output of psql."""
    arguments = [postgres_program("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", url]
    for name, value in (variables or {}).items():
        arguments += ["--set", f"{name}={value}"]
    result = subprocess.run(arguments + ["--csv", "--file=-"], input=sql, capture_output=True, text=True,
                            env=os.environ | {"PGTZ": "UTC"})
    if result.returncode != 0:
        raise SQLError(result.stderr)
    return result.stdout


# What stands for NULL in psql's output; no text of ours is the same.
NULL = "\x02"


def query(url, sql):
    """The rows of one query as dictionaries of texts; None for NULL."""
    output = run_sql(url, f"\\pset null '{NULL}'\n{sql}\n;")
    rows = csv.DictReader(io.StringIO(output))
    return [{name: None if value == NULL else value for name, value in row.items()} for row in rows]


class Session:
    """A connection that stays: its transactions span several calls."""

    def __init__(self, url):
        self.process = subprocess.Popen(
            [postgres_program("psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
             "--set=ON_ERROR_STOP=1", url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PGTZ": "UTC"})

    def begin(self, sql):
        """Sends statements without waiting for their end."""
        self.process.stdin.write(f"{sql};\n\\echo {NULL}\n")
        self.process.stdin.flush()

    def end(self):
        """The output of what has been begun."""
        lines = []
        for line in self.process.stdout:
            if line.rstrip("\n") == NULL:
                return "".join(lines).strip()
            lines.append(line)
        raise SQLError("the session has ended")

    def run(self, sql):
        self.begin(sql)
        return self.end()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
