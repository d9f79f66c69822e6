use std::io::{Cursor, Seek, SeekFrom, Write};

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{Device, Tensor};
use r1seg_checkpoint::NumberFormat;
use r1seg_checkpoint::gguf::{Error, Gguf, Layout, NewTensor, Value, ValueType};

fn quantized(dtype: GgmlDType) -> QTensor {
    let numbers: Vec<f32> = (0..2048u32).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let tensor = Tensor::from_vec(numbers, (8, 256), &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, dtype).unwrap()
}

const TYPES: [(NumberFormat, GgmlDType); 6] = [
    (NumberFormat::Q4K, GgmlDType::Q4K),
    (NumberFormat::F32, GgmlDType::F32),
    (NumberFormat::Q8_0, GgmlDType::Q8_0),
    (NumberFormat::Bf16, GgmlDType::BF16),
    (NumberFormat::Q6K, GgmlDType::Q6K),
    (NumberFormat::F16, GgmlDType::F16),
];

fn fields() -> Vec<(String, Value)> {
    let field = |key: &str, value| (key.to_owned(), value);
    vec![
        field("u8", Value::U8(200)),
        field("i8", Value::I8(-100)),
        field("u16", Value::U16(60_000)),
        field("i16", Value::I16(-30_000)),
        field("u32", Value::U32(4_000_000_000)),
        field("i32", Value::I32(-2_000_000_000)),
        field("f32", Value::F32(1e-5)),
        field("bool", Value::Bool(true)),
        field("string", Value::String("Größe".to_owned())),
        field("array", Value::Array { of: ValueType::U16, len: 2, bytes: vec![1, 0, 2, 0] }),
        field("u64", Value::U64(u64::MAX)),
        field("i64", Value::I64(i64::MIN)),
        field("f64", Value::F64(1e300)),
    ]
}

#[test]
fn candle_reads_what_is_laid_out_here() {
    let tensors: Vec<NewTensor> =
        TYPES.iter().map(|(ours, _)| NewTensor::new(ours.name(), *ours, vec![8, 256])).collect();
    let layout = Layout::new(&fields(), &tensors).unwrap();
    let mut file = layout.header().to_vec();
    for (i, (_, theirs)) in TYPES.iter().enumerate() {
        let tensor = quantized(*theirs);
        let bytes = tensor.data().unwrap();
        assert_eq!(bytes.len() as u64, layout.bytes(i));
        file.extend_from_slice(&bytes);
        file.resize(file.len() + layout.padding(i), 0);
    }

    let mut reader = Cursor::new(&file);
    let content = gguf_file::Content::read(&mut reader).unwrap();
    assert_eq!(content.metadata.len(), 14);
    assert_eq!(content.metadata["string"].to_string().unwrap(), "Größe");
    assert_eq!(content.metadata["i64"].to_i64().unwrap(), i64::MIN);
    assert_eq!(content.metadata["f32"].to_f32().unwrap(), 1e-5);
    assert_eq!(content.metadata["array"].to_vec().unwrap().len(), 2);
    assert_eq!(content.metadata["general.alignment"].to_u32().unwrap(), 64);
    for (ours, theirs) in TYPES {
        let read = content.tensor(&mut reader, ours.name(), &Device::Cpu).unwrap();
        assert_eq!((read.dtype(), read.shape().dims()), (theirs, &[8, 256][..]));
        assert_eq!(read.data().unwrap(), quantized(theirs).data().unwrap(), "{ours:?}");
    }

    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!((gguf.version, gguf.alignment), (3, 64));
    for (key, value) in fields() {
        assert_eq!(gguf.metadata[&key], value);
    }
    for info in gguf.tensors.values() {
        assert_eq!(info.range.start % 64, 0);
    }
}

#[test]
fn files_that_candle_writes_are_read() {
    let tensors = TYPES.map(|(ours, theirs)| (ours.name(), quantized(theirs)));
    let list: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, t)| (*name, t)).collect();
    let words = ["a", "bb", "ccc"].map(|w| gguf_file::Value::String(w.to_owned()));
    let words = gguf_file::Value::Array(words.to_vec());
    let rate = gguf_file::Value::F32(10_000.0);
    let mut file = Vec::new();
    gguf_file::write(&mut Cursor::new(&mut file), &[("words", &words), ("rate", &rate)], &list)
        .unwrap();

    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!((gguf.version, gguf.alignment), (2, 32));
    assert_eq!(gguf.metadata["rate"].to_f64(), Some(10_000.0));
    let Value::Array { of: ValueType::String, len: 3, bytes } = &gguf.metadata["words"] else {
        panic!("{:?}", gguf.metadata["words"]);
    };
    assert_eq!(bytes.len(), 3 * 8 + 6);
    for ((ours, theirs), (name, tensor)) in TYPES.iter().zip(&tensors) {
        let info = &gguf.tensors[*name];
        assert_eq!((info.format, &info.shape[..]), (*ours, &[8, 256][..]));
        assert_eq!(info.row_bytes() * 8, info.range.end - info.range.start);
        let range = info.range.start as usize..info.range.end as usize;
        assert_eq!(file[range], *tensor.data().unwrap(), "{theirs:?}");
    }
}

#[test]
fn a_header_longer_than_the_first_read_is_read_to_its_end() {
    let bytes = vec![7; 5 << 20];
    let list = Value::Array { of: ValueType::U8, len: bytes.len() as u64, bytes };
    let tensor = NewTensor::new("w", NumberFormat::F32, vec![16]);
    let layout = Layout::new(&[("list".to_owned(), list)], &[tensor]).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(layout.header()).unwrap();
    file.write_all(&[0; 64]).unwrap();
    // Wherever the handle stands.
    file.seek(SeekFrom::Start(17)).unwrap();
    let gguf = Gguf::open(&file).unwrap();
    assert_eq!(gguf.tensors["w"].range.end, file.metadata().unwrap().len());

    file.set_len(layout.header().len() as u64).unwrap();
    assert!(matches!(Gguf::open(&file).unwrap_err(), Error::BeyondEnd { .. }));
    file.set_len(2 << 20).unwrap();
    assert!(matches!(Gguf::open(&file).unwrap_err(), Error::EndsEarly { .. }));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let tensor = |shape: &[u64]| NewTensor::new("w", NumberFormat::Q4K, shape.to_vec());
    for shape in [&[][..], &[4, 128], &[0, 256], &[1; 5], &[u64::MAX, 256]] {
        let error = Layout::new(&[], &[tensor(shape)]).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{shape:?}: {error}");
    }
    let twice = [tensor(&[1, 256]), tensor(&[1, 256])];
    assert!(matches!(Layout::new(&[], &twice), Err(Error::DuplicateTensor { .. })));
    let alignment = ("general.alignment".to_owned(), Value::U32(32));
    assert!(matches!(Layout::new(&[alignment], &[]), Err(Error::DuplicateField { .. })));
}
