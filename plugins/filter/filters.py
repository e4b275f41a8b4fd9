# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of the collection.

All in one file, which only gathers them: for each template that has a filter of a collection, ansible-core opens every file of the
collection's filters. The C(.yml) beside it document them.
"""

from __future__ import annotations

from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.deploy_status import deploy_status
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.failure_message import failure_message
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.failure_reason import failure_reason
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.hook_files import hook_files
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.magento_hosts import magento_hosts
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.magento_plan import magento_plan
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.magento_shop_state import magento_shop_state
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.magento_stays import magento_stays
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.magento_unhealthy import magento_unhealthy
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.magento_went_back import magento_went_back
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.mask_credentials import mask_credentials
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.phase_result import phase_result
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.status_table import status_table
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.filters.switched import switched
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.release_path import ReleasePath


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {
            "deploy_status": deploy_status,
            "failure_message": failure_message,
            "failure_reason": failure_reason,
            "hook_files": hook_files,
            "magento_hosts": magento_hosts,
            "magento_plan": magento_plan,
            "magento_shop_state": magento_shop_state,
            "magento_stays": magento_stays,
            "magento_unhealthy": magento_unhealthy,
            "magento_went_back": magento_went_back,
            "mask_credentials": mask_credentials,
            "phase_result": phase_result,
            "release_path": ReleasePath,
            "status_table": status_table,
            "switched": switched,
        }
