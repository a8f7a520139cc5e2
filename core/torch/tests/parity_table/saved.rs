//! Folders that this engine writes, loaded by transformers itself: where `METAREWARD_PYTHON` names a Python that has it.

use std::process::Command;

use metareward_torch::{CausalLm, Precision, save::save_model_in_shards};
use tch::Device;

use crate::{
    models::{Model, fixture, json, version},
    row::Row,
};

const LOAD: &str = "
import json, sys, torch, transformers
from safetensors.torch import load_file
expected = load_file(sys.argv[1])
found = []
for folder, name in zip(sys.argv[2::2], sys.argv[3::2]):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype='auto', output_loading_info=True)
    assert not any(info.values()) and model.dtype == torch.float32, info
    assert transformers.AutoTokenizer.from_pretrained(folder).chat_template
    wanted = expected[name + '/f32']
    tokens = expected[name + '/tokens'].long()[None, :len(wanted)]
    with torch.no_grad():
        found.append(float((model.eval()(input_ids=tokens).logits[0] - wanted).abs().max()))
print(transformers.__version__)
print(json.dumps(found))
";

/// One row, or none where there is no Python to ask.
pub fn rows(models: &[Model]) -> Vec<Row> {
    let Some(python) = std::env::var_os("METAREWARD_PYTHON") else {
        println!("skipped saved folders: METAREWARD_PYTHON names no Python with transformers");
        return Vec::new();
    };
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.args(["-c", LOAD]).arg(fixture("parity/variants.safetensors"));
    for (index, model) in models.iter().enumerate() {
        let target = scratch.path().join(index.to_string());
        let ours = CausalLm::load(&model.folder, Device::Cpu, Precision::F32).unwrap();
        // Small files, so that there are several.
        save_model_in_shards(&model.folder, &target, ours.weights().tensors(), Precision::F32, 30_000).unwrap();
        command.arg(target).arg(&model.name);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    let asked = format!("transformers {}", lines.next().unwrap());
    let found: Vec<f64> = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(found.len(), models.len());
    let made = version(&json("parity/variants.json"), "transformers");
    let mut row =
        Row::new("saved folders, loaded there: logits, f32", format!("{asked}; fixture {made}"), "logit", 1e-4);
    for (model, difference) in models.iter().zip(found) {
        row.add(&model.name, difference);
    }
    vec![row]
}
