"""What a machine should have."""

from sky import standin


class Resources:
    def __init__(
        self,
        cloud=None,
        instance_type=None,
        cpus=None,
        memory=None,
        accelerators=None,
        accelerator_args=None,
        infra=None,
        use_spot=None,
        job_recovery=None,
        region=None,
        zone=None,
        image_id=None,
        disk_size=None,
        disk_tier=None,
        network_tier=None,
        local_disk=None,
        max_hourly_cost=None,
        ports=None,
        labels=None,
        autostop=None,
        hooks=None,
        priority=None,
        priority_class=None,
        volumes=None,
        _docker_login_config=None,
        _docker_username_for_runpod=None,
        _is_image_managed=None,
        _requires_fuse=None,
        _cluster_config_overrides=None,
        _no_missing_accel_warnings=None,
    ):
        if not infra or infra.count("/") != 1:
            raise ValueError(f"Invalid infra format: {infra}.")
        if max_hourly_cost is not None and max_hourly_cost <= 0:
            raise ValueError("max_hourly_cost must be a positive number")
        self.infra, self.accelerators, self.use_spot = infra, accelerators, use_spot
        self.image_id, self.disk_size, self.max_hourly_cost = image_id, disk_size, max_hourly_cost

    @property
    def cloud(self):
        """Its class says AWS, GCP and so on."""
        return self.infra.partition("/")[0].upper()

    @property
    def region(self):
        return self.infra.partition("/")[2]

    def get_cost(self, seconds):
        ((kind, gpus),) = self.accelerators.items()
        return standin.price(self.infra, kind, gpus, bool(self.use_spot)) * seconds / 3600
