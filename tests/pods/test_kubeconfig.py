"""Kubeconfigs: a table of client-go's rules, and a property that holds for any files."""

from __future__ import annotations

import base64
import posixpath
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bastion.errors import BastionError, Code
from bastion.pods import kubeconfig, kubeconfigfile
from bastion.pods.kubeconfig import Kubeconfig, Material

SECRET = "hunter2-hunter2"
V1 = "client.authentication.k8s.io/v1"


def cluster(name: str, **keys: Any) -> dict[str, Any]:
    return {"clusters": [{"name": name, "cluster": {"server": f"https://{name}:6443", **keys}}]}


def user(name: str, **keys: Any) -> dict[str, Any]:
    return {"users": [{"name": name, "user": keys}]}


def context(name: str, cluster_name: str, user_name: str) -> dict[str, Any]:
    return {"contexts": [{"name": name, "context": {"cluster": cluster_name, "user": user_name}}]}


def read(document: Any, path: str = "/home/alice/.kube/config") -> Kubeconfig:
    return kubeconfigfile.parse(yaml.safe_dump(document, sort_keys=False).encode(), path)


def whole(**user_keys: Any) -> dict[str, Any]:
    keys = user_keys or {"token": SECRET}
    return {**cluster("c"), **user("u", **keys), **context("x", "c", "u"), "current-context": "x"}


def oidc(**more: str) -> dict[str, Any]:
    """A user's auth-provider that could be used, with other or more keys in its config."""
    config = {"idp-issuer-url": "https://idp", "client-id": "bastion", "refresh-token": SECRET, **more}
    return {"auth-provider": {"name": "oidc", "config": config}}


class TestWhatTheVariableNames:
    @pytest.mark.parametrize(
        ("variable", "files"),
        [
            ("", ()),
            ("/a", ("/a",)),
            ("/a:/b", ("/a", "/b")),
            ("/a:/b:/a", ("/a", "/b")),
            (":/a::/b:", ("/a", "/b")),
            ("a:./a", ("a", "./a")),
        ],
    )
    def test_files_stand_between_colons_each_counts_once_and_empty_ones_not(
        self, variable: str, files: tuple[str, ...]
    ) -> None:
        assert kubeconfig.listed(variable) == files


class TestMerging:
    def test_the_first_file_that_has_a_name_wins_for_it_whole(self) -> None:
        first = read(user("red", token=SECRET), "/one")
        second = read({**user("red", username="alice", password="other"), **cluster("blue")}, "/two")

        merged = kubeconfig.merge([first, second])

        assert merged.users["red"] == first.users["red"]
        assert merged.users["red"].username == ""
        assert merged.clusters["blue"] == second.clusters["blue"]

    def test_the_first_file_that_sets_current_context_wins(self) -> None:
        files = [read({**cluster("a"), "current-context": ""}, "/one"), read({"current-context": "b"}, "/two")]
        files.append(read({"current-context": "c"}, "/three"))

        merged = kubeconfig.merge(files)

        assert (merged.current_context, merged.current_where) == ("b", "/two:1")

    def test_a_context_may_join_what_stands_in_different_files(self) -> None:
        parts = [cluster("c"), user("u", token=SECRET), {**context("x", "c", "u"), "current-context": "x"}]

        chosen = kubeconfig.choose(kubeconfig.merge([read(part, f"/{i}") for i, part in enumerate(parts)]), None)

        assert (chosen.context, chosen.cluster.server, chosen.user.token) == ("x", "https://c:6443", SECRET)

    def test_for_each_key_it_is_known_which_file_won(self) -> None:
        merged = kubeconfig.merge([read(cluster("c"), "/one"), read(whole(), "/two")])

        assert dict(merged.origins()) == {
            "current-context": "/two:14",
            "contexts.x": "/two:10",
            "clusters.c": "/one:2",
            "users.u": "/two:6",
        }

    @pytest.mark.parametrize("text", ["", "\n \n", "apiVersion: v1\nkind: Config\nclusters: []\nusers: null\n"])
    def test_a_file_may_say_nothing(self, text: str) -> None:
        assert kubeconfigfile.parse(text.encode(), "/config").is_empty

    def test_nothing_merged_is_nothing(self) -> None:
        assert kubeconfig.merge([]).is_empty


class TestPaths:
    @pytest.mark.parametrize(
        ("written", "resolved"),
        [
            ("ca.crt", "/home/alice/.kube/ca.crt"),
            ("certs/ca.crt", "/home/alice/.kube/certs/ca.crt"),
            ("../ca.crt", "/home/alice/ca.crt"),
            ("/etc/ca.crt", "/etc/ca.crt"),
            ("", ""),
        ],
    )
    def test_are_relative_to_the_file_in_which_they_stand(self, written: str, resolved: str) -> None:
        authority = read(cluster("c", **{"certificate-authority": written})).clusters["c"].authority
        keys = {"client-certificate": written, "client-key": written, "tokenFile": written}
        found = read(user("u", **keys)).users["u"]

        assert authority == found.certificate == found.key == Material(file=resolved)
        assert found.token_file == resolved

    @pytest.mark.parametrize(
        ("written", "resolved"),
        [
            ("aws", "aws"),
            ("./login", "/home/alice/.kube/login"),
            ("bin/login", "/home/alice/.kube/bin/login"),
            ("/bin/x", "/bin/x"),
        ],
    )
    def test_of_a_plugin_are_so_too_unless_it_is_looked_for_in_path(self, written: str, resolved: str) -> None:
        plugin = read(user("u", exec={"command": written, "apiVersion": "x"})).users["u"].exec

        assert plugin is not None
        assert plugin.command == resolved


class TestWhatAFileSays:
    def test_data_is_decoded_and_stands_beside_a_file(self) -> None:
        data = base64.encodebytes(b"-----BEGIN" * 20).decode()
        keys = {"certificate-authority-data": data, "certificate-authority": "ca.crt"}

        assert read(cluster("c", **keys)).clusters["c"].authority == Material(
            file="/home/alice/.kube/ca.crt", data=b"-----BEGIN" * 20
        )

    def test_the_rest_of_a_cluster(self) -> None:
        keys = {"tls-server-name": "kubernetes", "insecure-skip-tls-verify": True, "proxy-url": "http://proxy:3128"}
        extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x", "n": [1, True, None]}}

        found = read(cluster("c", extensions=[extension], **keys)).clusters["c"]

        assert (found.tls_server_name, found.insecure, found.proxy) == ("kubernetes", True, "http://proxy:3128")
        assert found.plugin_config == '{"audience": "x", "n": [1, true, null]}'

    def test_the_rest_of_a_plugin(self) -> None:
        found = read(
            user(
                "u",
                exec={
                    "apiVersion": V1,
                    "command": "login",
                    "args": ["--as", "me"],
                    "env": [{"name": "REGION", "value": "eu"}, {"name": "EMPTY", "value": ""}],
                    "interactiveMode": "Never",
                    "provideClusterInfo": True,
                },
            )
        ).users["u"]

        assert found.exec == kubeconfig.Exec(
            where="/home/alice/.kube/config:4",
            api_version="client.authentication.k8s.io/v1",
            command="login",
            args=("--as", "me"),
            env=(("REGION", "eu"), ("EMPTY", "")),
            interactive_mode="Never",
            provide_cluster_info=True,
        )

    def test_the_rest_of_an_auth_provider(self) -> None:
        keys = {"client-secret": "s", "id-token": "i", "idp-certificate-authority-data": "UEVN", "extra-scopes": "a,b"}
        authority = {"idp-certificate-authority": "ca.crt"}

        found = read(user("u", **oidc(**keys, **authority))).users["u"].provider

        assert found == kubeconfig.AuthProvider(
            where="/home/alice/.kube/config:4",
            name="oidc",
            issuer="https://idp",
            client_id="bastion",
            client_secret="s",
            id_token="i",
            refresh_token=SECRET,
            authority=Material(file="ca.crt", data=b"PEM"),
        )

    def test_unknown_keys_and_empty_texts_mean_nothing(self) -> None:
        found = read({**user("u", token="", novelty={"a": [1]}), "preferences": {}, "extensions": []})

        assert found.users["u"] == kubeconfig.User(where="/home/alice/.kube/config:2")

    def test_secrets_are_not_in_its_repr(self) -> None:
        encoded = base64.b64encode(SECRET.encode()).decode()
        keys = {"token": SECRET, "password": SECRET, "client-key-data": encoded}
        plugin = {"command": "x", "env": [{"name": "X", "value": SECRET}]}
        provider = oidc(**{"client-secret": SECRET, "id-token": SECRET})

        text = repr(read(user("u", **keys, **provider, exec=plugin)))

        assert SECRET not in text
        assert encoded not in text


class TestChoosing:
    def test_a_context_that_is_named_wins_over_the_current_one(self) -> None:
        document = whole()
        document["contexts"] += context("y", "c", "u")["contexts"]

        assert kubeconfig.choose(read(document), None).context == "x"
        assert kubeconfig.choose(read(document), "y").context == "y"

    @pytest.mark.parametrize(
        ("document", "named", "message"),
        [
            (
                {**whole(), "current-context": ""},
                None,
                "no kubeconfig sets current-context; choose one with --context; k",
            ),
            (whole(), "y", "--context: there is no context 'y'; known are x"),
            ({**whole(), "current-context": "z"}, None, "/k:14: there is no context 'z'; known are x"),
            (
                {**cluster("c"), "current-context": "z"},
                None,
                "/k:5: there is no context 'z'; there are none in the files",
            ),
            (
                {**whole(), "clusters": []},
                None,
                "/k:7: context 'x' names the cluster 'c', which no file has; there are",
            ),
            ({**whole(), **user("v")}, None, "/k:9: context 'x' names the user 'u', which no file has; known are v"),
            (
                {**whole(), **context("x", "", "u")},
                None,
                "/k:10: context 'x' names no cluster; add `cluster: NAME` to it",
            ),
            (
                {**whole(), **cluster("c", server="kube:6443")},
                None,
                "/k:2: this cluster needs server: https://HOST:PORT",
            ),
            ({**whole(), **cluster("c", server="https://h:a")}, None, "/k:2: this cluster needs server: https://HOST"),
            (
                {**whole(), **cluster("c", **{"proxy-url": "socks5://p:1"})},
                None,
                "proxy-url must be http://HOST:PORT or",
            ),
            (
                {**whole(), **cluster("c", **{"insecure-skip-tls-verify": True, "certificate-authority": "a"})},
                None,
                "/k:2: insecure-skip-tls-verify and a certificate-authority exclude each other; remove one",
            ),
            (whole(**{"client-certificate": "a"}), None, "this user has a client-certificate and needs client-key or"),
            (whole(token=SECRET, username="a"), None, "this user has a token and a username or password; remove one"),
            (
                whole(**{"auth-provider": {"name": "gcp"}}),
                None,
                "/k:8: the auth-provider 'gcp' is not supported; use an exec plugin instead",
            ),
            (whole(**oidc(**{"idp-issuer-url": "http://idp"})), None, "needs idp-issuer-url: https://HOST"),
            (whole(**oidc(**{"client-id": ""})), None, "this auth-provider's config needs a client-id"),
            (whole(**oidc(**{"refresh-token": ""})), None, "needs a refresh-token or an id-token"),
            (
                whole(**oidc(), exec={"command": "x", "apiVersion": V1, "interactiveMode": "Never"}),
                None,
                "/k:6: this user has an auth-provider and an exec plugin; remove one of them",
            ),
            (
                whole(token=SECRET, **{"as": "admin"}),
                None,
                "/k:9: as is not supported; give the user a token, a client",
            ),
            (whole(exec={"apiVersion": V1}), None, "this exec plugin needs a command"),
            (
                whole(exec={"command": "x", "apiVersion": "v9"}),
                None,
                "this exec plugin's apiVersion must be client.auth",
            ),
            (
                whole(exec={"command": "x", "apiVersion": V1}),
                None,
                "this exec plugin's interactiveMode must be Never or IfAvailable",
            ),
            (
                whole(
                    exec={
                        "command": "x",
                        "apiVersion": "client.authentication.k8s.io/v1beta1",
                        "interactiveMode": "Always",
                    }
                ),
                None,
                "this exec plugin wants a person to answer it (interactiveMode: Always); use another",
            ),
        ],
    )
    def test_what_cannot_be_used_is_said_with_its_place(self, document: Any, named: str | None, message: str) -> None:
        with pytest.raises(BastionError) as caught:
            kubeconfig.choose(read(document, "/k"), named)

        assert caught.value.code is Code.INVALID
        assert message in caught.value.user_message
        assert SECRET not in str(caught.value)

    def test_a_plugin_of_v1beta1_need_not_say_how_interactive_it_is(self) -> None:
        plugin = {"command": "x", "apiVersion": "client.authentication.k8s.io/v1beta1"}

        chosen = kubeconfig.choose(read(whole(exec=plugin)), None).user.exec

        assert chosen is not None
        assert chosen.interactive_mode == "IfAvailable"

    def test_what_is_wrong_with_what_is_not_chosen_does_not_matter(self) -> None:
        document = whole()
        document["users"] += user("broken", **{"auth-provider": {"name": "gcp"}, "as": "x"})["users"]
        document["clusters"] += [{"name": "broken"}]

        assert kubeconfig.choose(read(document), None).user.token == SECRET


class TestWrongFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("- a", "/k:1: the document must be a mapping"),
            ("clusters: {a: b}", "/k:1: clusters must be a list"),
            ("clusters:\n- cluster: {}", "/k:2: clusters[0] needs a name"),
            ("users:\n- {name: a}\n- {name: a}", "/k:3: users has the name 'a' a second time; remove one"),
            ("users:\n- name: a\n  user:\n    token: 1234567", "/k:4: users[0].user.token must be a text; put quotes"),
            ("users:\n- name: a\n  user: {token: [1234567]}", "/k:3: users[0].user.token must be a text"),
            (
                "users:\n- name: a\n  user: {client-key-data: 1234567-x}",
                "/k:3: users[0].user.client-key-data must be",
            ),
            (
                "users:\n- name: a\n  user: {auth-provider: {config: {client-secret: 1234567}}}",
                "/k:3: users[0].user.auth-provider.config.client-secret must be a text",
            ),
            ("users:\n- name: a\n  user: {exec: {env: [{value: '1234567'}]}}", "env[0] needs a name, without ="),
            ("clusters:\n- name: a\n  cluster: {insecure-skip-tls-verify: 1234567}", "must be true or false"),
            ("users: [\n", "/k:2: "),
            ("users:\n- name: a\n  user: {token: '1234567\n", "/k:4: "),
            ("users: [{name: &a x}, {name: *a}]", "/k:1: aliases (*NAME) are refused"),
        ],
    )
    def test_are_refused_with_the_line_and_without_the_value(self, text: str, message: str) -> None:
        with pytest.raises(BastionError) as caught:
            kubeconfigfile.parse(text.encode(), "/k")

        assert caught.value.code is Code.INVALID
        assert message in caught.value.user_message
        assert "1234567" not in str(caught.value)


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.sampled_from(["x.crt", "./d/x.crt", "../x.crt", "/abs/x.crt"])


def entries(kind: str, keys: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """A list of clusters, users or contexts, as it stands in a file."""
    return st.dictionaries(NAMES, keys).map(lambda found: [{"name": name, kind: one} for name, one in found.items()])


CLUSTERS = st.fixed_dictionaries(
    {"server": st.integers(1, 9).map("https://h:{}".format)}, optional={"certificate-authority": PATHS}
)
USERS = st.fixed_dictionaries({}, optional={"token": st.text("xyz"), "tokenFile": PATHS})
CONTEXTS = st.fixed_dictionaries({"cluster": NAMES, "user": NAMES})
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "current-context": st.one_of(st.just(""), NAMES),
        "clusters": entries("cluster", CLUSTERS),
        "users": entries("user", USERS),
        "contexts": entries("context", CONTEXTS),
    },
)


@given(documents=st.lists(DOCUMENTS, max_size=4))
@settings(max_examples=150)
def test_each_key_has_the_value_of_the_first_file_that_has_it_and_paths_are_absolute(documents: list[Any]) -> None:
    merged = kubeconfig.merge([read(document, f"/d{i}/k") for i, document in enumerate(documents)])

    def firsts(plural: str, kind: str) -> dict[str, tuple[int, dict[str, Any]]]:
        found: dict[str, tuple[int, dict[str, Any]]] = {}
        for i, document in enumerate(documents):
            for entry in document.get(plural, []):
                found.setdefault(entry["name"], (i, entry[kind]))
        return found

    def absolute(i: int, path: str | None) -> str:
        return posixpath.normpath(posixpath.join(f"/d{i}", path)) if path else ""

    assert merged.current_context == next(
        (one["current-context"] for one in documents if one.get("current-context")), ""
    )
    assert {name: (one.cluster, one.user) for name, one in merged.contexts.items()} == {
        name: (entry["cluster"], entry["user"]) for name, (_, entry) in firsts("contexts", "context").items()
    }
    assert {name: (one.server, one.authority.file) for name, one in merged.clusters.items()} == {
        name: (entry["server"], absolute(i, entry.get("certificate-authority")))
        for name, (i, entry) in firsts("clusters", "cluster").items()
    }
    assert {name: (one.token, one.token_file) for name, one in merged.users.items()} == {
        name: (entry.get("token", ""), absolute(i, entry.get("tokenFile")))
        for name, (i, entry) in firsts("users", "user").items()
    }


@given(
    data=st.one_of(
        st.binary(max_size=200), st.text(alphabet="clustersnamu:-{}[]'\"\n &*!|>", max_size=80).map(str.encode)
    )
)
@settings(max_examples=300)
def test_whatever_a_file_holds_it_is_read_or_refused_in_words(data: bytes) -> None:
    try:
        said = kubeconfigfile.parse(data, "/k").origins()
    except BastionError as error:
        said = (("an error", error.user_message),)

    assert all(where.startswith("/k:") for _, where in said)
