"""Secrets encrypted by Airflow's own key, as it keeps those of its connections."""

from __future__ import annotations

from airflow_monai.errors import SecretsUnsafe


class AirflowFernet:
    """By ``[core] fernet_key``, in the API server, gateways and workers alike
    (:class:`airflow_monai.notifications.handlers.Cipher`)."""

    def encrypt(self, text: str) -> str:
        """:raises SecretsUnsafe: when Airflow encrypts nothing here."""
        from airflow.sdk.crypto import get_fernet

        fernet = get_fernet()
        if not fernet.is_encrypted:
            raise SecretsUnsafe("A secret cannot be kept here: Airflow has no [core] fernet_key. Set one.")
        return fernet.encrypt(text.encode()).decode()

    def decrypt(self, text: str) -> str:
        """:raises SecretsUnsafe: when it was encrypted by another key."""
        from airflow.sdk.crypto import get_fernet
        from cryptography.fernet import InvalidToken

        fernet = get_fernet()
        if not fernet.is_encrypted:
            raise SecretsUnsafe("A secret cannot be read: there is no [core] fernet_key here.")
        try:
            return fernet.decrypt(text.encode()).decode()
        except InvalidToken:
            raise SecretsUnsafe(
                "A secret cannot be read: [core] fernet_key is another one here than where it was kept. Give all "
                "components the same, or have it kept anew: register the handler, or post the run, again."
            ) from None
