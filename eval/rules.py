"""Rules: all that has to be equal for two records to be comparable."""

from collections.abc import Mapping
from typing import Any

# Records from before November 2026 have no checksum of their workload's code in their rules. These
# are the checksums of the code with which they were made, or that was shown to train bit for bit
# the same.
CODE_BEFORE = {
    "ctr_dlrm": "a27a24c7cb6fa3a2",
    "mri_unet": "709ba20ee69d3311",
    "image_resnet": "376a224264faef6c",
    "image_vit": "5c74e1c798047bf2",
    "speech_conformer": "4d70dc5dff235cc2",
    "speech_deepspeech": "0ccba1f6d580f067",
    "molecule_gnn": "09dcf045bcc98017",
    "translation_transformer": "df3686828dab5c66",
    "adapter_lora": "14c614465a00a950",
    "autoencoder": "9a9dce1c4e57056a",
    "bandit_policy": "ff4c280d03c060fd",
    "coordinate_net": "3bc004ebba054fd9",
    "digits_small": "c077e3c4cef70026",
    "forecast_gru": "6c7fc9df7451ee9c",
    "mlp_batchnorm": "6137cdb0422eb441",
    "sentence_pairs": "72b05eca039c84f9",
    "table_raw": "79773307f11159b2",
    "text_gpt": "1d234a62cd2dc826",
    "vit_wide4": "4594fd35325164ae",
}


def rules_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The rules that a record was made under, its workload's code among them."""
    return {"code": CODE_BEFORE.get(record["workload"]), **record["rules"]}
