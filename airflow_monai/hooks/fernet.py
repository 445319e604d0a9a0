"""Secrets encrypted by Airflow's own key, as it keeps those of its connections."""

from __future__ import annotations

from airflow_monai.notifications.handlers import SecretsUnsafe


class AirflowFernet:
    """By ``[core] fernet_key`` (:class:`airflow_monai.notifications.handlers.Cipher`)."""

    def encrypt(self, text: str) -> str:
        from airflow.models.crypto import get_fernet

        fernet = get_fernet()
        if not fernet.is_encrypted:
            raise SecretsUnsafe("A secret cannot be kept here: Airflow has no [core] fernet_key. Set one.")
        return fernet.encrypt(text.encode()).decode()

    def decrypt(self, text: str) -> str:
        from airflow.models.crypto import get_fernet
        from cryptography.fernet import InvalidToken

        fernet = get_fernet()
        if not fernet.is_encrypted:
            raise SecretsUnsafe("The secret of a handler cannot be read: there is no [core] fernet_key here.")
        try:
            return fernet.decrypt(text.encode()).decode()
        except InvalidToken:
            raise SecretsUnsafe(
                "The secret of a handler cannot be read: [core] fernet_key is another one "
                "than when it was registered. Give all components the same, or register the handler anew."
            ) from None
