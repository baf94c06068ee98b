"""Requests: each gives an id at once, and `get` waits for what came of it."""

from sky import standin
from sky.utils import common


def list_accelerators(
    gpus_only=True,
    name_filter=None,
    region_filter=None,
    quantity_filter=None,
    clouds=None,
    all_regions=False,
    require_price=True,
    case_sensitive=True,
):
    return standin.ask("list_accelerators", lambda state: standin.catalogue(quantity_filter, clouds))


def launch(
    task,
    cluster_name=None,
    retry_until_up=False,
    idle_minutes_to_autostop=None,
    wait_for=None,
    dryrun=False,
    down=False,
    backend=None,
    optimize_target=common.OptimizeTarget.COST,
    no_setup=False,
    clone_disk_from=None,
    fast=False,
    resize=False,
    _need_confirmation=False,
    _is_launched_by_jobs_controller=False,
    _is_launched_by_sky_serve_controller=False,
    _disable_controller_check=False,
    _file_mounts_blob_id=None,
    _extra_launch_context=None,
    _include_credentials=False,
):
    asked = standin.Launch(task, cluster_name, idle_minutes_to_autostop, wait_for, down)
    return standin.ask("launch", lambda state: standin.launch(state, asked))


def down(cluster_name, purge=False, graceful=False, graceful_timeout=None):
    return standin.ask("down", lambda state: standin.down(state, cluster_name))


def autostop(cluster_name, idle_minutes, wait_for=None, down=False, hook=None, hook_timeout=None):
    return standin.ask("autostop", lambda state: standin.autostop(state, cluster_name, idle_minutes, wait_for, down))


def status(
    cluster_names=None,
    refresh=common.StatusRefreshMode.NONE,
    all_users=False,
    *,
    _include_credentials=False,
    _summary_response=False,
):
    return standin.ask("status", lambda state: standin.status(state, cluster_names, refresh))


def cost_report(days=None):
    return standin.ask("cost_report", lambda state: standin.cost_report(state))


def get(request_id):
    return standin.answer(request_id)


def api_cancel(request_ids=None, all_users=False, silent=False):
    return standin.ask("api_cancel", lambda state: standin.cancel(state, request_ids))
