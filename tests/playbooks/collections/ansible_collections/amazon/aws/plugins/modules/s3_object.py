#!/usr/bin/python
"""Stands in for amazon.aws.s3_object: writes down its arguments and copies a file."""

import json
import os
import shutil

from ansible.module_utils.basic import AnsibleModule

OPTIONS = {
    "bucket": {"required": True},
    "object": {},
    "dest": {"type": "path"},
    "mode": {"required": True},
    "region": {},
    "access_key": {"no_log": True},
    "secret_key": {"no_log": True},
    "endpoint_url": {},
    "ceph": {"type": "bool"},
    "encrypt": {"type": "bool"},
    "ignore_nonexistent_bucket": {"type": "bool"},
}


def main():
    module = AnsibleModule(argument_spec=OPTIONS)
    given = {name: value for name, value in module.params.items() if value is not None}
    with open(os.environ["STAND_IN_LOG"], "w") as log:
        json.dump(given, log)
    shutil.copy(os.environ["STAND_IN_OBJECT"], given["dest"])
    module.exit_json(changed=True)


main()
