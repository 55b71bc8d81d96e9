#!/usr/bin/env bash
# Checks who may depend on whom in the workspace.
#
# usage: scripts/check-deps.sh
#
# 1. chimera-domain is pure: nothing that talks to a network, a GPU, a clock or a log is
#    anywhere below it.
# 2. wire stands on domain, runtime on wire; a service stands on those three and never on
#    another service; only chimera-cli composes services.
# 3. chimera-testkit and the fake NVML are for tests: dev-dependencies only, except of the
#    packages that are tests or benchmarks themselves.
# 4. One TLS provider: aws-lc-rs is nowhere in the tree.
#
# The rules hold for every target platform. exit: 0 kept, 1 broken (each breach on its line).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo metadata --locked --format-version 1 | python3 -c '
import json, sys

IMPURE = {"tokio", "async-nats", "tonic", "prost", "reqwest", "nvml-wrapper", "tracing"}
SECOND_TLS = {"aws-lc-rs", "aws-lc-sys", "aws-lc-fips-sys"}
SERVICES = {"coordinator", "agent-worker", "gpu-telemetry", "analyzer"}
BASE = {"chimera-domain", "chimera-wire", "chimera-runtime"}
TEST_ONLY = {"chimera-testkit", "fake-nvml"}
# Package -> the workspace packages that it may depend on. Dev-dependencies may add TEST_ONLY.
MAY_USE = {
    "chimera-domain": set(),
    "chimera-wire": {"chimera-domain"},
    "chimera-runtime": {"chimera-domain", "chimera-wire"},
    "chimera-testkit": BASE,
    "fake-nvml": set(),
    "chimera-cli": BASE | SERVICES,
    "chimera-tests": BASE | SERVICES | TEST_ONLY,
    "chimera-benches": BASE | SERVICES | TEST_ONLY,
    "attribution-eval": {"chimera-domain", "chimera-testkit"},
    **{service: BASE for service in SERVICES},
}

metadata = json.load(sys.stdin)
names = {package["id"]: package["name"] for package in metadata["packages"]}
members = {names[member]: member for member in metadata["workspace_members"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}


def below(package, dev):
    """(id, only-for-tests) of each direct dependency."""
    for dependency in nodes[package]["deps"]:
        kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
        if dev or kinds != {"dev"}:
            yield dependency["pkg"], kinds == {"dev"}


breaches = []
for name in sorted(members.keys() - MAY_USE.keys()):
    breaches.append(f"{name}: a package without a rule; give it one in scripts/check-deps.sh")
for name in sorted(members.keys() & MAY_USE.keys()):
    for dependency, for_tests in below(members[name], dev=True):
        other = names[dependency]
        if other not in members or other == name:
            continue
        allowed = MAY_USE[name] | (TEST_ONLY if for_tests else set())
        if other not in allowed:
            breaches.append(f"{name} must not depend on {other}" + (" even for tests" if for_tests else ""))

# Everything below the domain, with the way there.
if "chimera-domain" in members:
    way = {members["chimera-domain"]: ["chimera-domain"]}
    todo = list(way)
    while todo:
        package = todo.pop()
        for dependency, _ in below(package, dev=False):
            if dependency not in way:
                way[dependency] = way[package] + [names[dependency]]
                todo.append(dependency)
    for path in way.values():
        if path[-1] in IMPURE:
            breaches.append("chimera-domain must stay pure: " + " -> ".join(path))

for package in nodes:
    if names[package] in SECOND_TLS:
        users = sorted({names[user] for user, node in nodes.items() if any(d["pkg"] == package for d in node["deps"])})
        breaches.append(f"{names[package]} is a second TLS provider beside ring; brought by " + ", ".join(users))

for breach in breaches:
    print(f"dependency rule broken: {breach}")
if not breaches:
    print(f"dependency rules kept by {len(members)} workspace packages ({len(nodes)} packages in all)")
sys.exit(bool(breaches))
'
