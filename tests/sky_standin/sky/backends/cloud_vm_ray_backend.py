"""How a cluster is reached."""


class CloudVmRayResourceHandle:
    def __init__(
        self,
        *,
        cluster_name,
        cluster_name_on_cloud,
        cluster_yaml,
        launched_nodes,
        launched_resources,
        stable_internal_external_ips=None,
        stable_ssh_ports=None,
        cluster_info=None,
    ):
        self.cluster_name = cluster_name
        self.launched_nodes = launched_nodes
        self.launched_resources = launched_resources
        self.stable_internal_external_ips = stable_internal_external_ips
        self.stable_ssh_ports = stable_ssh_ports
        self._ssh_user = cluster_info

    def get_hourly_price(self):
        return self.launched_resources.get_cost(3600) * self.launched_nodes

    @property
    def ssh_user(self):
        return self._ssh_user

    @property
    def head_ip(self):
        return self.stable_internal_external_ips[0][1] if self.stable_internal_external_ips else None

    @property
    def head_ssh_port(self):
        return self.stable_ssh_ports[0] if self.stable_ssh_ports else None
