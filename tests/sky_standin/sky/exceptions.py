"""What can go wrong."""


class InvalidCloudCredentials(Exception):
    pass


class ResourcesUnavailableError(Exception):
    def __init__(self, message, no_failover=False, failover_history=None):
        super().__init__(message)
        self.no_failover = no_failover
        self.failover_history = list(failover_history or [])


class ResourcesMismatchError(Exception):
    pass


class SkyPilotExcludeArgsBaseException(Exception):
    pass


class CommandFailureException(SkyPilotExcludeArgsBaseException):
    def __init__(self, command, failure, error_msg, detailed_reason):
        super().__init__(f"Command {command} {failure}.\n{error_msg}\n{detailed_reason}")


class CommandError(CommandFailureException):
    def __init__(self, returncode, command, error_msg, detailed_reason, failure=None):
        super().__init__(command, failure or f"failed with return code {returncode}", error_msg, detailed_reason)


class ClusterNotUpError(Exception):
    def __init__(self, message, cluster_status=None, handle=None):
        super().__init__(message)


class ClusterSetUpError(Exception):
    pass


class ClusterDoesNotExist(ValueError):
    pass


class NotSupportedError(Exception):
    pass


class CloudUserIdentityError(Exception):
    pass


class NoCloudAccessError(Exception):
    pass


class UserRequestRejectedByPolicy(Exception):
    pass


class RequestCancelled(Exception):
    pass


class ApiServerConnectionError(RuntimeError):
    def __init__(self, server_url):
        super().__init__(f"Could not connect to SkyPilot API server at {server_url}.")


class ApiServerAuthenticationError(RuntimeError):
    def __init__(self, server_url):
        super().__init__(f"Authentication required for SkyPilot API server at {server_url}.")


class PermissionDeniedError(Exception):
    pass
