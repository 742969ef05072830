"""The tokens of SageMaker's route for OpenAI's clients, signed by botocore.

A token is a presigned request for the action ``CallWithBearerToken``, which is never sent: a prefix, and the
base64 of its address without ``https://``. Nothing of it is documented; this is what
``sagemaker.core.token_generator`` of sagemaker-core 2.27.0 makes, byte for byte.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from inf2kit import aws
from inf2kit.errors import EndpointAccessError, EndpointError

_PREFIX = "sagemaker-api-key-"
#: A fixed host, of no region and no partition.
_URL = "https://sagemaker.amazonaws.com/"
_SERVICE = "sagemaker"
_MAX_LIFETIME_S = 43_200


class BearerTokens:
    """Makes tokens for one endpoint. Threads may share it.

    Args:
        endpoint: The endpoint's name, for errors.
        region: The endpoint's region; a token is valid in one region.
        load_credentials: Returns botocore's credentials, or None. It may call AWS.
        lifetime_s: Seconds that a token is valid.

    Raises:
        EndpointError: ``lifetime_s`` is out of range.
    """

    def __init__(
        self, endpoint: str, region: str, load_credentials: Callable[[], Any], lifetime_s: int
    ) -> None:
        if type(lifetime_s) is not int or not 0 < lifetime_s <= _MAX_LIFETIME_S:
            raise EndpointError(
                f"lifetime_s is {lifetime_s!r}; a token is valid for 1 to {_MAX_LIFETIME_S} whole seconds"
            )
        self._endpoint, self._region, self._lifetime_s = endpoint, region, lifetime_s
        self._load_credentials = load_credentials
        self._credentials: Any = None

    def make(self) -> str:
        """Make a token, in a fraction of a millisecond unless the credentials are renewed first.

        Raises:
            EndpointAccessError: there are no credentials, or they cannot be renewed.
        """
        from botocore.exceptions import NoCredentialsError

        with aws.translate_errors(EndpointAccessError, f"calling the endpoint {self._endpoint!r}"):
            if self._credentials is None:
                self._credentials = self._load_credentials()
            if self._credentials is None:
                raise NoCredentialsError
            # Frozen, so that a renewal in between cannot mix the keys of two credentials.
            return sign_token(aws.freeze(self._credentials), self._region, self._lifetime_s)

    async def make_async(self) -> str:
        """Make a token; in a thread if that may take long.

        Raises:
            EndpointAccessError: there are no credentials, or they cannot be renewed.
        """
        needs_refresh = getattr(self._credentials, "refresh_needed", None)
        if self._credentials is None or (needs_refresh is not None and needs_refresh()):
            import anyio.to_thread

            return await anyio.to_thread.run_sync(self.make)
        return self.make()


def sign_token(credentials: Any, region: str, lifetime_s: int) -> str:
    """Sign a token.

    Args:
        credentials: botocore's frozen credentials.
        region: The region of the endpoints that it is for.
        lifetime_s: Seconds that it is valid from now on.
    """
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest("POST", _URL, params={"Action": "CallWithBearerToken"})
    SigV4QueryAuth(credentials, _SERVICE, region, expires=lifetime_s).add_auth(request)
    address = f"{request.url.removeprefix('https://')}&Version=1"
    return _PREFIX + base64.b64encode(address.encode()).decode()
