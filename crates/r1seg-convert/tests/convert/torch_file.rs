//! A writer of `torch.save` files, in every layout that torch has written.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A value of a pickle.
#[derive(Clone)]
pub(crate) enum Val {
    Tensor(Tensor),
    /// `torch.nn.Parameter` of it.
    Parameter(Tensor),
    Dict(Vec<(Val, Val)>),
    OrderedDict(Vec<(Val, Val)>),
    List(Vec<Val>),
    Int(i64),
    Float(f64),
    Text(String),
    None,
    /// Opcodes as they are.
    Raw(Vec<u8>),
}

/// A view of a storage.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) kind: &'static str,
    pub(crate) storage: usize,
    pub(crate) numbers: i64,
    pub(crate) offset: i64,
    pub(crate) shape: Vec<i64>,
    pub(crate) strides: Vec<i64>,
}

pub(crate) fn text(text: &str) -> Val {
    Val::Text(text.to_owned())
}

pub(crate) fn dict(entries: Vec<(&str, Val)>) -> Val {
    Val::Dict(entries.into_iter().map(|(key, value)| (text(key), value)).collect())
}

pub(crate) fn ordered(entries: Vec<(&str, Val)>) -> Val {
    Val::OrderedDict(entries.into_iter().map(|(key, value)| (text(key), value)).collect())
}

/// A file in the making: the value, and the bytes of its storages with their unit.
#[derive(Clone)]
pub(crate) struct TorchFile {
    pub(crate) protocol: u8,
    pub(crate) root: Val,
    pub(crate) storages: Vec<(usize, Vec<u8>)>,
}

impl TorchFile {
    pub(crate) fn new(protocol: u8) -> Self {
        Self { protocol, root: Val::None, storages: Vec::new() }
    }

    /// A contiguous tensor with a storage of its own.
    pub(crate) fn add(&mut self, kind: &'static str, shape: &[i64], bytes: Vec<u8>) -> Tensor {
        let numbers: i64 = shape.iter().product();
        let unit = if numbers == 0 { 4 } else { bytes.len() / numbers as usize };
        self.storages.push((unit, bytes));
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        let storage = self.storages.len() - 1;
        Tensor { kind, storage, numbers, offset: 0, shape: shape.to_vec(), strides }
    }

    pub(crate) fn add_f32(&mut self, shape: &[i64], numbers: &[f32]) -> Tensor {
        let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.add("FloatStorage", shape, bytes)
    }

    pub(crate) fn pickle(&self) -> Vec<u8> {
        self.pickle_of(&self.root, false)
    }

    fn pickle_of(&self, value: &Val, is_legacy: bool) -> Vec<u8> {
        let mut body = Vec::new();
        self.emit(&mut body, value, is_legacy);
        body.push(b'.');
        pickle(self.protocol, &body)
    }

    /// `archive/data.pkl` and its company.
    pub(crate) fn zip(&self) -> Vec<u8> {
        self.zip_with(SimpleFileOptions::default(), "archive")
    }

    pub(crate) fn zip_with(&self, options: SimpleFileOptions, root: &str) -> Vec<u8> {
        let mut members = vec![
            ("data.pkl".to_owned(), self.pickle()),
            ("byteorder".to_owned(), b"little".to_vec()),
        ];
        for (key, (_, bytes)) in self.storages.iter().enumerate() {
            members.push((format!("data/{key}"), bytes.clone()));
        }
        members.push(("version".to_owned(), b"3\n".to_vec()));
        zip_of(&members, options, root)
    }

    /// Before torch 1.6: pickle after pickle, then the storages.
    pub(crate) fn legacy(&self) -> Vec<u8> {
        let magic = [b"\x8a\x0a".as_slice(), &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8]];
        let magic = [magic.concat(), vec![0x50, 0x19, b'.']].concat();
        let system = Val::Dict(vec![
            (text("protocol_version"), Val::Int(1001)),
            (text("little_endian"), Val::Raw(vec![0x88])),
            (text("type_sizes"), dict(vec![("short", Val::Int(2))])),
        ]);
        let keys = (0..self.storages.len()).map(|key| Val::Text(key.to_string())).collect();
        let mut out = pickle(self.protocol, &magic);
        out.extend(self.pickle_of(&Val::Int(1001), true));
        out.extend(self.pickle_of(&system, true));
        out.extend(self.pickle_of(&self.root, true));
        out.extend(self.pickle_of(&Val::List(keys), true));
        for (unit, bytes) in &self.storages {
            out.extend(((bytes.len() / unit) as i64).to_le_bytes());
            out.extend(bytes);
        }
        out
    }

    fn emit(&self, out: &mut Vec<u8>, value: &Val, is_legacy: bool) {
        match value {
            Val::None => out.push(b'N'),
            Val::Raw(bytes) => out.extend(bytes),
            Val::Int(number) => self.int(out, *number),
            Val::Float(number) => {
                out.push(b'G');
                out.extend(number.to_be_bytes());
            }
            Val::Text(text) => self.string(out, text),
            Val::List(items) => {
                out.extend(b"](");
                for item in items {
                    self.emit(out, item, is_legacy);
                }
                out.push(b'e');
            }
            Val::Dict(entries) => {
                out.push(b'}');
                self.entries(out, entries, is_legacy);
            }
            Val::OrderedDict(entries) => {
                self.global(out, "collections", "OrderedDict");
                out.extend(b")R");
                self.entries(out, entries, is_legacy);
                // `_metadata`, as every state dict has.
                out.push(b'}');
                self.string(out, "_metadata");
                out.extend(b"}sb");
            }
            Val::Tensor(tensor) => self.tensor(out, tensor, is_legacy),
            Val::Parameter(tensor) => {
                self.global(out, "torch._utils", "_rebuild_parameter");
                out.push(b'(');
                self.tensor(out, tensor, is_legacy);
                out.push(0x88);
                self.global(out, "collections", "OrderedDict");
                out.extend(b")RtR");
            }
        }
    }

    fn entries(&self, out: &mut Vec<u8>, entries: &[(Val, Val)], is_legacy: bool) {
        // Pickle sets items by the thousand, and a single one alone.
        for batch in entries.chunks(1000) {
            if let [(key, value)] = batch {
                self.emit(out, key, is_legacy);
                self.emit(out, value, is_legacy);
                out.push(b's');
                continue;
            }
            out.push(b'(');
            for (key, value) in batch {
                self.emit(out, key, is_legacy);
                self.emit(out, value, is_legacy);
            }
            out.push(b'u');
        }
    }

    fn tensor(&self, out: &mut Vec<u8>, tensor: &Tensor, is_legacy: bool) {
        self.global(out, "torch._utils", "_rebuild_tensor_v2");
        out.extend(b"((");
        self.string(out, "storage");
        self.global(out, "torch", tensor.kind);
        self.string(out, &tensor.storage.to_string());
        self.string(out, "cpu");
        self.int(out, tensor.numbers);
        if is_legacy {
            out.push(b'N');
        }
        out.extend(b"tQ");
        self.int(out, tensor.offset);
        self.ints(out, &tensor.shape);
        self.ints(out, &tensor.strides);
        out.push(0x89);
        self.global(out, "collections", "OrderedDict");
        out.extend(b")RtR");
    }

    fn ints(&self, out: &mut Vec<u8>, numbers: &[i64]) {
        out.push(b'(');
        for number in numbers {
            self.int(out, *number);
        }
        out.push(b't');
    }

    fn int(&self, out: &mut Vec<u8>, number: i64) {
        if let Ok(number) = u8::try_from(number) {
            out.extend([b'K', number]);
        } else if let Ok(number) = u16::try_from(number) {
            out.push(b'M');
            out.extend(number.to_le_bytes());
        } else if let Ok(number) = i32::try_from(number) {
            out.push(b'J');
            out.extend(number.to_le_bytes());
        } else {
            out.extend([0x8a, 8]);
            out.extend(number.to_le_bytes());
        }
    }

    fn string(&self, out: &mut Vec<u8>, text: &str) {
        if self.protocol >= 4 {
            out.extend([0x8c, text.len() as u8]);
            out.extend(text.bytes());
            out.push(0x94);
        } else {
            out.push(b'X');
            out.extend((text.len() as u32).to_le_bytes());
            out.extend(text.bytes());
            out.extend([b'r', 7, 0, 0, 0]);
        }
    }

    fn global(&self, out: &mut Vec<u8>, module: &str, name: &str) {
        out.extend(global(self.protocol, module, name));
    }
}

pub(crate) fn global(protocol: u8, module: &str, name: &str) -> Vec<u8> {
    if protocol >= 4 {
        let part = |text: &str| [&[0x8c, text.len() as u8][..], text.as_bytes()].concat();
        [part(module), part(name), vec![0x93]].concat()
    } else {
        [b"c", module.as_bytes(), b"\n", name.as_bytes(), b"\n"].concat()
    }
}

/// A body with the head of its protocol.
pub(crate) fn pickle(protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, protocol];
    if protocol >= 4 {
        out.push(0x95);
        out.extend((body.len() as u64).to_le_bytes());
    }
    out.extend(body);
    out
}

pub(crate) fn zip_of(
    members: &[(String, Vec<u8>)],
    options: SimpleFileOptions,
    root: &str,
) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = options.compression_method(CompressionMethod::Stored);
    for (name, bytes) in members {
        writer.start_file(format!("{root}/{name}"), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A zip of one hand-made pickle.
pub(crate) fn zip_of_pickle(pickle: &[u8]) -> Vec<u8> {
    let members = [("data.pkl".to_owned(), pickle.to_vec())];
    zip_of(&members, SimpleFileOptions::default(), "archive")
}
