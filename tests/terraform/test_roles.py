"""What each identity may do, as docs/security.md tells it: every role that the configuration gives, and to whom."""

import re
from collections import defaultdict

from tests.terraform.configuration import FOLDER

# Of what they are roles: of one database, one service, one secret, one repository, some buckets; of the project only
# where nothing narrower exists.
GIVEN = {
    "workflow": {"datastore.user if only_this_database", "secretmanager.secretAccessor on secret_id"},
    "api": {
        "datastore.user if only_this_database",
        "secretmanager.secretAccessor on secret_id",
        "run.invoker on name",
    },
    "scheduler": {"run.invoker on name"},
    "build": {
        "artifactregistry.writer on repository",
        "logging.logWriter",
        "storage.objectViewer if sources_of_functions",
        "storage.objectViewer on bucket",
    },
    "allUsers": {"run.invoker on name"},
    "each.value": {"run.invoker on name"},  # dashboard_members
    "each.value.principal": {"run.invoker on name"},  # invokers
}


def test_the_configuration_gives_these_roles_and_no_others() -> None:
    given = defaultdict(set)
    text = "\n".join(file.read_text() for file in sorted(FOLDER.glob("*.tf")))
    for kind, body in re.findall(
        r'^resource "(google_\w+_iam_\w+)" "\w+" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL
    ):
        fields = dict(re.findall(r'^  (\w+) += "?(.*?)"?$', body, re.MULTILINE))
        account = re.fullmatch(r"google_service_account\.(\w+)(\[.*\])?\.member", fields["member"])
        condition = re.search(r"title +=.*?(only_this_database|sources_of_functions)", body)
        on = next((f" on {name}" for name in ("name", "secret_id", "repository", "bucket") if name in fields), "")
        where = on if condition is None else f" if {condition[1]}"
        assert kind.endswith("_member"), "a policy or a binding would take roles from others"
        given[account[1] if account else fields["member"]].add(fields["role"].removeprefix("roles/") + where)

    assert given == GIVEN
