//! What training keeps on disk to go on from: one file, `state/training.safetensors`.
//!
//! It holds the flat weights and the optimizer's tensors, in the number formats that they have in memory, and, in its
//! metadata, how far training had come. One file under one name means that the state is always either the previous one or
//! the new one, whenever the process ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use metareward_api::EngineError;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{adamw::ALIGN, ranks};
use crate::{Group, error::TorchError};

/// Format of the state file.
const VERSION: u32 = 1;

/// Elements copied at a time.
const BLOCK: i64 = 1 << 20;

/// Largest header accepted, in bytes.
const LARGEST_HEADER: u64 = 100 << 20;

/// One finished epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EpochRecord {
    /// Mean training loss of its steps.
    pub train_loss: f64,
    /// Mean loss on the held-out examples.
    pub validation_loss: Option<f64>,
}

/// How far training has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    version: u32,
    /// What the run depends on.
    pub fingerprint: String,
    /// Whether every epoch is written; the file then holds no tensors.
    pub finished: bool,
    /// Optimizer steps taken.
    pub step: u32,
    /// Bytes of `log.jsonl` that belong to those steps.
    pub log_bytes: u64,
    /// Epochs finished.
    pub epochs: Vec<EpochRecord>,
    /// Sum of the losses of the steps of the epoch under way.
    pub epoch_loss: f64,
    /// Loss of the first step.
    pub first_loss: f64,
    /// Examples whose completion was cut.
    pub truncated: BTreeSet<u32>,
    /// Tokens of a micro-batch, where there was no memory for as many as the settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch_tokens: Option<u32>,
}

impl Position {
    /// The position before the first step.
    pub fn start(fingerprint: &str) -> Self {
        Self {
            version: VERSION,
            fingerprint: fingerprint.to_owned(),
            finished: false,
            step: 0,
            log_bytes: 0,
            epochs: Vec::new(),
            epoch_loss: 0.0,
            first_loss: 0.0,
            truncated: BTreeSet::new(),
            micro_batch_tokens: None,
        }
    }
}

#[derive(PartialEq, Serialize, Deserialize)]
struct TensorHeader {
    dtype: String,
    shape: Vec<i64>,
    data_offsets: [u64; 2],
}

/// The tensors by name, and the metadata under [`METADATA`].
type Header = BTreeMap<String, serde_json::Value>;

/// Name that safetensors keeps for what is not a tensor.
const METADATA: &str = "__metadata__";

/// A tensor of the state with its name.
pub(crate) type Named = (&'static str, Tensor);

/// What [`TrainingFolder::open`] found.
pub(crate) struct Opened {
    /// Where to go on.
    pub position: Position,
    /// Whether there are saved tensors to go on from.
    pub saved: bool,
}

/// The places of a training run's files.
pub(crate) struct TrainingFolder {
    root: PathBuf,
}

impl TrainingFolder {
    /// The run in `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// `log.jsonl`.
    pub fn log(&self) -> PathBuf {
        self.root.join("log.jsonl")
    }

    /// The model folder of epoch `epoch`, counted from 1.
    pub fn epoch(&self, epoch: usize) -> PathBuf {
        self.root.join(format!("epoch-{epoch}"))
    }

    fn state(&self) -> PathBuf {
        self.root.join("state").join("training.safetensors")
    }

    fn state_draft(&self) -> PathBuf {
        self.root.join("state").join("training.safetensors.tmp")
    }

    /// Where the last run with this fingerprint stopped, or the start. Makes the folder ready to go on from there: the
    /// log ends with the position's last step, and no drafts are left. The state of another fingerprint, and state that
    /// cannot be read, is set aside under `other-<n>/`, with its log and its epochs.
    pub fn open(&self, fingerprint: &str) -> Result<Opened, EngineError> {
        make_folder(&self.root.join("state"))?;
        remove_file(&self.state_draft())?;
        for (name, path) in entries(&self.root)? {
            if name.starts_with("epoch-") && name.ends_with(".tmp") {
                remove_folder(&path)?;
            }
        }
        let path = self.state();
        let position = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(io(&path, &error)),
            Ok(file) => match read_header(BufReader::new(file)) {
                Ok((header, _)) => match position(&header) {
                    Ok(position) => Some(position),
                    Err(message) => return self.start_over(fingerprint, &message),
                },
                Err(error) => return self.start_over(fingerprint, &error.to_string()),
            },
        };
        let Some(position) = position else {
            // No state was ever written: a log or epochs here are leftovers of steps that are taken again.
            remove_file(&self.log())?;
            return Ok(Opened { position: Position::start(fingerprint), saved: false });
        };
        if position.fingerprint != fingerprint {
            return self.start_over(fingerprint, "it belongs to other data, settings or another model");
        }
        let length = fs::metadata(self.log()).map_or(0, |log| log.len());
        if length < position.log_bytes {
            return self.start_over(fingerprint, "its log is shorter than the state says");
        }
        if length > position.log_bytes {
            let log = File::options().write(true).open(self.log()).map_err(|error| io(&self.log(), &error))?;
            log.set_len(position.log_bytes).map_err(|error| io(&self.log(), &error))?;
        }
        Ok(Opened { saved: !position.finished, position })
    }

    fn start_over(&self, fingerprint: &str, why: &str) -> Result<Opened, EngineError> {
        let mut number = 1;
        let aside = loop {
            let candidate = self.root.join(format!("other-{number}"));
            if !candidate.exists() {
                break candidate;
            }
            number += 1;
        };
        tracing::warn!(
            folder = %self.root.display(), aside = %aside.display(),
            "training starts at the first step: the state found is not used, because {why}"
        );
        make_folder(&aside)?;
        // The state goes first: without it, a process that ends here leaves nothing that could be mistaken for this run's.
        rename(&self.root.join("state"), &aside.join("state"))?;
        for (name, path) in entries(&self.root)? {
            if name == "log.jsonl" || name.starts_with("epoch-") {
                rename(&path, &aside.join(&name))?;
            }
        }
        make_folder(&self.root.join("state"))?;
        Ok(Opened { position: Position::start(fingerprint), saved: false })
    }

    /// Writes the position and `tensors`, which are flat; the previous state stays until the new one is whole on disk. A
    /// finished run's state has no tensors. Where every process has a share of them, `held` says which this one's are; the
    /// others send theirs.
    pub fn save(&self, position: &Position, tensors: &[Named], held: Held<'_>) -> Result<(), EngineError> {
        if let Ok(log) = File::open(self.log()) {
            log.sync_all().map_err(|error| io(&self.log(), &error))?;
        }
        let draft = self.state_draft();
        write_state(&draft, position, tensors, held)?;
        rename(&draft, &self.state())?;
        sync(&self.root.join("state"))
    }

    /// Reads the saved state into `tensors`, which are the ones that [`TrainingFolder::save`] was given, or others like
    /// them; of a process that has a share, that share. How many processes wrote the state makes no difference.
    ///
    /// # Errors
    /// When the file holds other tensors: of another model, or in the number formats of other settings.
    pub fn load(&self, tensors: &mut [Named], held: Held<'_>) -> Result<(), EngineError> {
        let path = self.state();
        let file = File::open(&path).map_err(|error| io(&path, &error))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let wrong = |message: String| EngineError::Io { path: path.clone(), message };
        let (header, before) = read_header(&mut reader).map_err(|error| io(&path, &error))?;
        let expected = headers(tensors, held)?;
        let mut found = BTreeMap::new();
        for (name, value) in header.into_iter().filter(|(name, _)| name != METADATA) {
            let tensor: TensorHeader = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
            found.insert(name, tensor);
        }
        let forms = |of: &BTreeMap<String, TensorHeader>| -> String {
            let forms: Vec<String> = of.iter().map(|(name, tensor)| format!("{name} in {}", tensor.dtype)).collect();
            forms.join(", ")
        };
        if forms(&found) != forms(&expected) {
            return Err(wrong(format!(
                "it was saved under other settings of train.weights, train.optimizer_state or engine.dtype: it holds {}, and \
                 these settings need {}; set them back, or delete the state folder to start again",
                forms(&found),
                forms(&expected)
            )));
        }
        if found != expected {
            return Err(wrong("its tensors do not fit the model; delete the state folder to start again".to_owned()));
        }
        for (name, tensor) in tensors {
            let width = tensor.kind().elt_size_in_bytes() as u64;
            let start = found.get(*name).map_or(0, |tensor| tensor.data_offsets[0]) + width * held.first(name) as u64;
            // The length of the header comes first, in 8 bytes.
            reader.seek(SeekFrom::Start(8 + before + start)).map_err(|error| io(&path, &error))?;
            read_tensor(&mut reader, tensor, &path)?;
        }
        Ok(())
    }

    /// Puts a folder that `write` fills at `target`, whole or not at all; one already there is replaced.
    pub fn publish(
        &self,
        target: &Path,
        write: impl FnOnce(&Path) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let draft = target.with_extension("tmp");
        remove_folder(&draft)?;
        make_folder(&draft)?;
        write(&draft)?;
        for (_, path) in entries(&draft)? {
            sync(&path)?;
        }
        sync(&draft)?;
        remove_folder(target)?;
        rename(&draft, target)?;
        sync(&self.root)
    }
}

/// Which elements of the flat memory a process's tensors are.
#[derive(Clone, Copy)]
pub(crate) enum Held<'a> {
    /// All of them.
    All,
    /// Those from this one on, of so many; the other processes of the group have the rest.
    From(i64, i64, &'a Group),
}

impl Held<'_> {
    /// The first entry of the tensor called `name`.
    fn first(self, name: &str) -> i64 {
        match self {
            Held::All => 0,
            Held::From(start, ..) => start / entries_each(name),
        }
    }

    /// Entries of the tensor called `name`, of which this process has `own`, at all processes together.
    fn whole(self, name: &str, own: i64) -> i64 {
        match self {
            Held::All => own,
            Held::From(_, length, _) => (length + entries_each(name) - 1) / entries_each(name),
        }
    }
}

/// Elements that an entry of the tensor called `name` is for; see [`AdamW::state`](super::adamw::AdamW::state).
fn entries_each(name: &str) -> i64 {
    if name.ends_with("_scales") { ALIGN } else { 1 }
}

/// What the file says of `tensors`: their data in the order given, one after the other.
fn headers(tensors: &[Named], held: Held<'_>) -> Result<BTreeMap<String, TensorHeader>, EngineError> {
    let mut start = 0;
    let mut headers = BTreeMap::new();
    for (name, tensor) in tensors {
        let dtype = match tensor.kind() {
            Kind::Float => "F32",
            Kind::BFloat16 => "BF16",
            Kind::Int16 => "I16",
            Kind::Uint8 => "U8",
            other => return Err(EngineError::Machine(format!("a state of {other:?} cannot be saved: this is a bug"))),
        };
        let whole = held.whole(name, tensor.numel() as i64);
        let end = start + whole as u64 * tensor.kind().elt_size_in_bytes() as u64;
        let header = TensorHeader { dtype: dtype.to_owned(), shape: vec![whole], data_offsets: [start, end] };
        headers.insert((*name).to_owned(), header);
        start = end;
    }
    Ok(headers)
}

fn write_state(path: &Path, position: &Position, tensors: &[Named], held: Held<'_>) -> Result<(), EngineError> {
    let failed = |error: std::io::Error| io(path, &error);
    let json = |error: serde_json::Error| EngineError::Io { path: path.to_owned(), message: error.to_string() };
    let mut header = Header::new();
    for (name, tensor) in headers(tensors, held)? {
        header.insert(name, serde_json::to_value(tensor).map_err(json)?);
    }
    let training = serde_json::to_string(position).map_err(json)?;
    header.insert(METADATA.to_owned(), serde_json::json!({ "training": training }));
    let mut header = serde_json::to_vec(&header).map_err(json)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let file = File::create(path).map_err(failed)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    writer.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    writer.write_all(&header).map_err(failed)?;
    let mut written = Ok(());
    for (_, tensor) in tensors {
        match held {
            Held::All => write_tensor(&mut writer, tensor, path)?,
            // What the others send is taken even when it cannot be written: they would wait.
            Held::From(_, _, group) => written = written.and(ranks::write_pieces(group, tensor, &mut writer)?),
        }
    }
    written.map_err(failed)?;
    writer.flush().map_err(failed)?;
    writer.get_ref().sync_all().map_err(failed)
}

/// Start and length of every block of a flat tensor.
fn blocks(tensor: &Tensor) -> impl Iterator<Item = (i64, i64)> + use<> {
    let total = tensor.numel() as i64;
    (0..total).step_by(BLOCK as usize).map(move |start| (start, BLOCK.min(total - start)))
}

fn write_tensor(writer: &mut impl Write, tensor: &Tensor, path: &Path) -> Result<(), EngineError> {
    let width = tensor.kind().elt_size_in_bytes();
    let mut bytes = vec![0; width * BLOCK as usize];
    for (start, length) in blocks(tensor) {
        let block = tensor.f_narrow(0, start, length).and_then(|block| block.f_to_device(Device::Cpu));
        let block = block.map_err(TorchError::from)?;
        let bytes = &mut bytes[..width * length as usize];
        block.f_copy_data_u8(bytes, length as usize).map_err(TorchError::from)?;
        writer.write_all(bytes).map_err(|error| io(path, &error))?;
    }
    Ok(())
}

fn read_tensor(reader: &mut impl Read, tensor: &mut Tensor, path: &Path) -> Result<(), EngineError> {
    let kind = tensor.kind();
    let mut bytes = vec![0; kind.elt_size_in_bytes() * BLOCK as usize];
    for (start, length) in blocks(tensor) {
        let bytes = &mut bytes[..kind.elt_size_in_bytes() * length as usize];
        reader.read_exact(bytes).map_err(|error| io(path, &error))?;
        let block = Tensor::f_from_data_size(bytes, &[length], kind).map_err(TorchError::from)?;
        let mut target = tensor.f_narrow(0, start, length).map_err(TorchError::from)?;
        tch::no_grad(|| target.f_copy_(&block)).map_err(TorchError::from)?;
    }
    Ok(())
}

fn read_header(mut reader: impl Read) -> std::io::Result<(Header, u64)> {
    let mut length = [0; 8];
    reader.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_HEADER {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "its header is not that of a training state"));
    }
    let mut header = vec![0; length as usize];
    reader.read_exact(&mut header)?;
    let header = serde_json::from_slice(&header).map_err(std::io::Error::from)?;
    Ok((header, length))
}

fn position(header: &Header) -> Result<Position, String> {
    let text = header.get(METADATA).and_then(|metadata| metadata.get("training")?.as_str());
    let text = text.ok_or("its header has no training position")?;
    let position: Position = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if position.version != VERSION {
        return Err(format!("its format is version {}, this program writes {VERSION}", position.version));
    }
    Ok(position)
}

fn io(path: &Path, error: &std::io::Error) -> EngineError {
    TorchError::io(path, error).into()
}

fn make_folder(path: &Path) -> Result<(), EngineError> {
    fs::create_dir_all(path).map_err(|error| io(path, &error))
}

fn rename(from: &Path, to: &Path) -> Result<(), EngineError> {
    fs::rename(from, to).map_err(|error| io(to, &error))
}

fn sync(path: &Path) -> Result<(), EngineError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| io(path, &error))
}

fn remove_file(path: &Path) -> Result<(), EngineError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io(path, &error)),
        _ => Ok(()),
    }
}

fn remove_folder(path: &Path) -> Result<(), EngineError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io(path, &error)),
        _ => Ok(()),
    }
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, EngineError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| io(folder, &error))? {
        let entry = entry.map_err(|error| io(folder, &error))?;
        entries.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    entries.sort();
    Ok(entries)
}
