"""Keys that come with a run: encrypted with Airflow's Fernet key wherever they rest."""

from __future__ import annotations

from airflow_monai.errors import MonaiError

MAX_LENGTH = 4096


class KeysNotTaken(MonaiError):
    """Nobody could keep a key safe here, and why."""


def encrypted(key: str) -> bytes:
    """
    :raises KeysNotTaken: when Airflow encrypts nothing here.
    """
    from airflow.sdk.crypto import get_fernet

    fernet = get_fernet()
    if not fernet.is_encrypted:
        raise KeysNotTaken("This Airflow has no [core] fernet_key, so a key could not be kept safe. Have one set.")
    return fernet.encrypt(key.encode())


def decrypted(data: bytes) -> str:
    """
    :raises KeysNotTaken: when it was encrypted with another Fernet key.
    """
    from airflow.sdk.crypto import get_fernet
    from cryptography.fernet import InvalidToken

    try:
        return get_fernet().decrypt(data).decode()
    except InvalidToken:
        raise KeysNotTaken(
            "The key of this run cannot be decrypted: this worker has another [core] fernet_key than the API server."
        ) from None
