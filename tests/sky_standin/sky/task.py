"""What a cluster is made for."""


class Task:
    def __init__(
        self,
        name=None,
        *,
        setup=None,
        run=None,
        envs=None,
        secrets=None,
        workdir=None,
        num_nodes=None,
        file_mounts=None,
        storage_mounts=None,
        volumes=None,
        resources=None,
        docker_image=None,
        event_callback=None,
        blocked_resources=None,
        api_server_access=True,
        _file_mounts_mapping=None,
        _volume_mounts=None,
        _metadata=None,
        _user_specified_yaml=None,
    ):
        self.setup, self.run, self.num_nodes, self.resources = setup, run, num_nodes, resources
