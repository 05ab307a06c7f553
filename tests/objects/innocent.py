"""Innocent content that looks a little like credentials: fields of real configurations, digests, ids, images."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import uuid
from typing import Final

_RANDOM: Final = random.Random(20260)


def _hex(digits: int) -> str:
    return f"{_RANDOM.getrandbits(4 * digits):0{digits}x}"


def _base64(size: int) -> str:
    return base64.b64encode(_RANDOM.randbytes(size)).decode()


def _uuid() -> str:
    return str(uuid.UUID(int=_RANDOM.getrandbits(128), version=4))


FIELDS: Final[dict[str, object]] = {
    # transformers
    "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>",
    "pad_token": "<|finetune_right_pad_id_128004|>", "unk_token": "[UNK]", "sep_token": "</s>", "mask_token": "<mask>",
    "cls_token_id": 101, "forced_bos_token_id": 250004, "decoder_start_token_id": 2, "additional_special_tokens":
    ["<|reserved_special_token_0|>", "<|reserved_special_token_247|>"], "chat_template": "{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] }}{% endfor %}", "num_key_value_heads": 8, "key_dim": 128, "_name_or_path":
    "sentence-transformers/all-MiniLM-L6-v2", "_commit_hash": _hex(40), "architectures": ["LlamaForCausalLM"],
    "token_type_ids": [0, 1], "past_key_values": None, "hub_token": None, "use_auth_token": True, "tokenizer_file":
    "/models/8f2a91c04d3b77e6/tokenizer.json", "token_metadata": {"a": 1}, "secretary_problem":
    "candidate-37-of-100",
    # OpenAI and Anthropic
    "max_tokens": 512, "max_completion_tokens": 4096, "prompt_tokens": 812, "completion_tokens_details":
    {"reasoning_tokens": 17}, "system_fingerprint": "fp_" + _hex(10), "id": "chatcmpl-" + _base64(21).replace("/", "A"),
    "tool_call_id": "call_" + _hex(24), "response_id": "resp_" + _hex(48), "logprobs":
    [{"token": " the", "logprob": -0.1}, {"token": "Ġinternationalization", "logprob": -2.5}],
    "stop_reason": "end_turn",
    "cache_read_input_tokens": 1024, "prompt_cache_key": _hex(32), "next_page_token": _base64(30), "continuation_token":
    _base64(24), "idempotency_key": _uuid(), "model": "claude-sonnet-4-20250514", "previous_response_id": _uuid(),
    # scikit-learn, training
    "n_estimators": 100, "random_state": 42, "sort_keys": True, "dict_key": "feature_17_standardised_v2", "primary_key":
    "customer_id_2024_11", "foreign_keys": ["orders.customer_id_2024"], "keyword": "reproducibility-2026", "keys":
    ["question_0001_of_1319"], "s3_key": "datasets/2026/11/20/part-00000-of-00032.parquet", "partition_key":
    "2026-11-20T00:00:00Z", "cache_key": _hex(64), "sort_key": "created_at_1732147200", "monkey": "capuchin-30-species",
    "author": "Ada Lovelace", "authors": ["A. Turing"], "passenger_count": 3, "passages": ["p1"], "compass": "N42E017",
    "api_key_env": "OPENAI_API_KEY", "password_file": "/run/secrets/db_2026_password", "credential_provider":
    "kubernetes-workload-identity-v2", "token": "b3:" + _hex(64), "key": _hex(64), "api_key": "YOUR_API_KEY_1234567",
    "secret_name": "projects/17/secrets/db-2026/versions/latest", "secret": "<your-secret-goes-here-123>",
    "access_token": "${HF_ACCESS_TOKEN_2026}", "password": "********************", "token_url":
    "https://login.example.org/oauth2/v2.0/token",
    # digests, ids, images
    "sha256": _hex(64), "digest": "sha256:" + _hex(64), "commit": _hex(40), "etag": '"' + _hex(32) + '"', "md5":
    _hex(32), "uuid": _uuid(), "run_id": _uuid(), "trace_id": _hex(32), "integrity": "sha512-" + _base64(64), "image":
    "data:image/png;base64," + _base64(4000), "embedding": _base64(6144), "checksum": "blake3:" + _hex(64),
}  # fmt: skip
"""Field → value, as they stand in configurations, responses and tables."""

TEXTS: Final[tuple[str, ...]] = (
    "client = OpenAI(api_key=os.environ['OPENAI_API_KEY_2026'])",
    "api_key = settings.providers.openai_api_key_v2",
    "token = get_token_from_vault_2026(name)",
    "password: str = Field(default_factory=make_password_2026)",
    "def f(api_key: Optional[SecretStr32] = None) -> None: ...",
    "postgresql://user:password@localhost:5432/test",
    "https://${USER}:${PASSWORD}@example.org/path",
    "mongodb://<username>:<password>@cluster0.example.net",
    "see http://host:8080/a@b and https://example.org/@user/post-1",
    "Authorization: Bearer $TOKEN",
    "Authorization: Bearer YOUR_ACCESS_TOKEN_GOES_HERE_1",
    "AKIAIOSFODNN7EXAMPLE is the key of AWS's own documents",
    'if "-----BEGIN PRIVATE KEY-----" in text: raise ValueError',
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA7bq9\n",
    '<div class="sk-top-container"><div id="sk-container-id-10" class="sk-toggleable__content-10-fitted">',
    "pip install sk-contrib-imbalanced-learn-0.12.3-py3-none-any",
    "hf_hub_download(repo_id, hf_transfer_is_enabled_since_version_0_17)",
    "from hf_transformers_compatibility_layer_2026 import hf_model",
    "The secret of good tokens: a key question in every passage, 2026.",
    "keyboard-shortcuts=ctrl-shift-p-2026-edition-of-the-manual",
    "task-specific sk-learn style, risk-averse, desk-top, xox-oxo, ghp_ and AIza are no tokens",
    'wheels = [{ url = "https://files.example.org/a1/keyring-25.7.0.whl", hash = "sha256:'
    + _hex(64)
    + '" }]',
    f"numpy==2.3.4 --hash=sha256:{_hex(64)}",
    f'[[version]]\nname = "models/email"\ndigest = "b3:{_hex(64)}"\n',
    f"commit {_hex(40)}\nAuthor: Ada <ada@example.org>\nChange-Id: I{_hex(40)}",
    hashlib.sha256(b"a").hexdigest() + "  keepstone-0.1.0.tar.gz",
)
"""Lines of code, documents, lock files and logs."""


def corpus() -> dict[str, bytes]:
    """Return what to look at, by what it is: each field as JSON and as a setting, each text."""
    found: dict[str, bytes] = {}
    for name, value in FIELDS.items():
        found[f"json {name}"] = json.dumps({name: value}, ensure_ascii=False).encode()
        found[f"setting {name}"] = f"{name} = {value!r}".encode()
        found[f"yaml {name}"] = f"{name}: {value}".encode()
    return found | {f"text {text[:30]}": text.encode() for text in TEXTS}
