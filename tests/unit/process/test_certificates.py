"""Certificate files: each error names the file and the reason."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from support.certificates import Authority

from portico.process import certificates


class Files:
    """A directory with certificates, keys and other files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.cert, self.key = self.authority.issue("site")
        self.other_key = self.authority.issue("other")[1]
        self.expired, self.expired_key = self.authority.issue("expired", days=(-3, -1))
        self.future, self.future_key = self.authority.issue("future", days=(1, 2))
        self.old = Authority(directory, "old", (-3, -1))

    def written(self, name: str, *contents: bytes) -> Path:
        (self.directory / name).write_bytes(b"".join(contents))
        return self.directory / name

    def private(
        self, name: str, key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, password: bytes = b""
    ) -> Path:
        form = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pem = serialization.Encoding.PEM
        return self.written(name, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, form))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


Pair = Callable[[Files], tuple[Path, Path]]
RSA = rsa.generate_private_key(65537, 2048)
MISTAKES: list[tuple[Pair, str]] = [
    (lambda f: (f.cert, f.other_key), r"/other\.key: is not the private key of .*/site\.crt"),
    (lambda f: (f.cert, f.private("rsa.key", RSA)), r"/rsa\.key: is not the private key of .*/site\.crt"),
    (
        lambda f: (f.cert, f.private("ed.key", ed25519.Ed25519PrivateKey.generate())),
        r"/ed\.key: is not the priv",
    ),
    (lambda f: (f.cert, f.private("secret.key", RSA, b"password")), r"/secret\.key: is encrypted"),
    (lambda f: (f.cert, f.cert), r"/site\.crt: is not a private key \(PEM\)"),
    (lambda f: (f.cert, f.written("empty", b"")), r"/empty: is not a private key \(PEM\)"),
    (lambda f: (f.key, f.key), r"/site\.key: is not a certificate \(PEM\)"),
    (lambda f: (f.written("half", f.cert.read_bytes()[:200]), f.key), r"/half: is not a certificate \(PEM\)"),
    (lambda f: (f.written("bytes", bytes(range(256))), f.key), r"/bytes: is not a certificate \(PEM\)"),
    (lambda f: (f.directory / "none", f.key), r"/none: can't be read: No such file"),
    (lambda f: (f.cert, f.directory), r": can't be read: Is a directory"),
    (lambda f: (f.expired, f.expired_key), r"/expired\.crt: expired on 20\d\d-\d\d-\d\d \d\d:\d\d UTC"),
    (lambda f: (f.future, f.future_key), r"/future\.crt: is not valid before 20\d\d-"),
    (
        lambda f: (f.written("chain", f.cert.read_bytes(), f.old.file.read_bytes()), f.key),
        r"/chain: certificate 2 of its chain expired on",
    ),
]


@pytest.mark.parametrize(("pair", "words"), MISTAKES)
def test_a_mistake_is_told_by_its_file_and_its_reason(files: Files, pair: Pair, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        certificates.check(*pair(files))
    assert "\n" not in str(caught.value)


def test_a_certificate_with_its_key_and_its_chain_is_good(files: Files) -> None:
    certificates.check(files.cert, files.key)
    chain = files.written("whole", files.cert.read_bytes(), files.authority.file.read_bytes())
    certificates.check(chain, files.key)


def test_authorities_need_one_that_is_valid_now(files: Files) -> None:
    both = files.written("both", files.old.file.read_bytes(), files.authority.file.read_bytes())
    certificates.check_authorities(both)
    for file, words in (
        (files.old.file, r"/old\.pem: expired on"),
        (files.key, r"/site\.key: is not a certificate \(PEM\)"),
        (files.directory / "none", r"/none: can't be read"),
    ):
        with pytest.raises(ValueError, match=words):
            certificates.check_authorities(file)
