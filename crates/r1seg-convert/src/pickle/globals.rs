//! The names that a pickle of weights may ask for, and what each stands for here.
//!
//! A name is never looked up anywhere: it is one of these, or the file is refused.

use r1seg_checkpoint::NumberFormat;

/// What a name in a pickle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    RebuildTensor,
    RebuildTensorV2,
    /// Takes the dtype as an argument, over bytes without one.
    RebuildTensorV3,
    RebuildParameter,
    RebuildParameterWithState,
    /// A tensor with attributes: `(rebuild, type, args, state)`.
    RebuildFromType,
    /// A typed storage; `None` holds bytes.
    Storage(Option<NumberFormat>),
    Dtype(NumberFormat),
    /// The class `torch.Tensor` or a parameter, as an argument only.
    TensorClass,
    OrderedDict,
    DefaultDict,
    Size,
    /// The arguments of a training script: fields by name, which weights never depend on.
    Namespace,
    /// Builds something that is kept as an opaque value and ignored.
    Inert,
}

/// Looks a name up in the list.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    Some(match module {
        "torch._utils" => match name {
            "_rebuild_tensor" => Global::RebuildTensor,
            "_rebuild_tensor_v2" => Global::RebuildTensorV2,
            "_rebuild_tensor_v3" => Global::RebuildTensorV3,
            "_rebuild_parameter" => Global::RebuildParameter,
            "_rebuild_parameter_with_state" => Global::RebuildParameterWithState,
            _ => return None,
        },
        "torch._tensor" if name == "_rebuild_from_type_v2" => Global::RebuildFromType,
        "torch.nn.parameter" if name == "Parameter" => Global::TensorClass,
        "torch.storage" => match name {
            "UntypedStorage" | "TypedStorage" | "_UntypedStorage" => Global::Storage(None),
            _ => return None,
        },
        "torch" => match name {
            "Tensor" => Global::TensorClass,
            "Size" => Global::Size,
            "device" => Global::Inert,
            "UntypedStorage" => Global::Storage(None),
            _ => match name.strip_suffix("Storage") {
                Some(kind) => Global::Storage(Some(storage_dtype(kind)?)),
                None => Global::Dtype(dtype(name)?),
            },
        },
        "collections" => match name {
            "OrderedDict" => Global::OrderedDict,
            "defaultdict" => Global::DefaultDict,
            "Counter" => Global::Inert,
            _ => return None,
        },
        "argparse" if name == "Namespace" => Global::Namespace,
        // Numbers, strings, sets and paths beside the weights: epochs, losses, random states.
        "_codecs" if name == "encode" => Global::Inert,
        "builtins" | "__builtin__" => match name {
            "set" | "frozenset" | "list" | "dict" | "int" | "float" | "bool" | "complex"
            | "bytearray" | "slice" => Global::Inert,
            _ => return None,
        },
        // Python 3.13 moved them.
        "pathlib" | "pathlib._local" => match name {
            "PosixPath" | "WindowsPath" | "PurePosixPath" | "PureWindowsPath" => Global::Inert,
            _ => return None,
        },
        "numpy" if matches!(name, "dtype" | "ndarray") => Global::Inert,
        "numpy.core.multiarray" | "numpy._core.multiarray" => match name {
            "scalar" | "_reconstruct" => Global::Inert,
            _ => return None,
        },
        "numpy.core.numeric" | "numpy._core.numeric" if name == "_frombuffer" => Global::Inert,
        _ => return None,
    })
}

fn storage_dtype(kind: &str) -> Option<NumberFormat> {
    Some(match kind {
        "Double" => NumberFormat::F64,
        "Float" => NumberFormat::F32,
        "Half" => NumberFormat::F16,
        "BFloat16" => NumberFormat::Bf16,
        "Long" => NumberFormat::I64,
        "Int" => NumberFormat::I32,
        "Short" => NumberFormat::I16,
        "Char" => NumberFormat::I8,
        "Byte" => NumberFormat::U8,
        "Bool" => NumberFormat::Bool,
        _ => return None,
    })
}

fn dtype(name: &str) -> Option<NumberFormat> {
    Some(match name {
        "float64" | "double" => NumberFormat::F64,
        "float32" | "float" => NumberFormat::F32,
        "float16" | "half" => NumberFormat::F16,
        "bfloat16" => NumberFormat::Bf16,
        "int64" | "long" => NumberFormat::I64,
        "int32" | "int" => NumberFormat::I32,
        "int16" | "short" => NumberFormat::I16,
        "int8" => NumberFormat::I8,
        "uint8" => NumberFormat::U8,
        "uint16" => NumberFormat::U16,
        "uint32" => NumberFormat::U32,
        "uint64" => NumberFormat::U64,
        "bool" => NumberFormat::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_run_code_are_not_in_the_list() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("nt", "system"),
            ("subprocess", "Popen"),
            ("builtins", "eval"),
            ("builtins", "exec"),
            ("builtins", "getattr"),
            ("builtins", "__import__"),
            ("__builtin__", "apply"),
            ("torch", "load"),
            ("torch.storage", "_load_from_bytes"),
            ("torch.hub", "load"),
            ("torch.serialization", "load"),
            ("torch._utils", "_rebuild_qtensor"),
            ("numpy", "load"),
            ("_codecs", "lookup"),
            ("collections", "namedtuple"),
            ("argparse", "FileType"),
            ("argparse", "ArgumentParser"),
            ("pathlib", "Path.unlink"),
            ("pathlib", "os"),
            // Classes of a trainer or of a script's author, whatever they are.
            ("lightning.pytorch.callbacks.model_checkpoint", "ModelCheckpoint"),
            ("torch.optim.lr_scheduler", "StepLR"),
            ("omegaconf.dictconfig", "DictConfig"),
            ("__main__", "Stage"),
        ] {
            assert_eq!(find(module, name), None, "{module}.{name}");
        }
    }
}
