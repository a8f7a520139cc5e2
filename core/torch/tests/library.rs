//! What is said of libtorch and of devices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_torch::{Cuda, DeviceChoice, Precision, libtorch_info};
use tch::Device;

#[test]
fn libtorch_is_found_where_it_was_loaded_from() {
    let info = libtorch_info();
    assert!(info.version.starts_with("2.11."), "{}", info.version);
    assert!(info.folder.unwrap().join("libtorch_cpu.so").is_file());
    assert!(info.threads >= 1);
    // A second question gets the same answer.
    assert_eq!(info.cuda, libtorch_info().cuda);
}

#[test]
fn devices_are_what_was_asked_for() {
    assert_eq!(DeviceChoice::Cpu.resolve().unwrap(), Device::Cpu);
    let automatic = DeviceChoice::Auto.resolve().unwrap();
    match libtorch_info().cuda {
        Cuda::Ready { devices } if devices > 0 => {
            assert_eq!(automatic, Device::Cuda(0));
            assert_eq!(DeviceChoice::Cuda(0).resolve().unwrap(), Device::Cuda(0));
        }
        cuda => {
            assert_eq!(automatic, Device::Cpu);
            let error = DeviceChoice::Cuda(0).resolve().unwrap_err().to_string();
            assert!(error.contains(&cuda.to_string()) || error.contains("this machine has 0"), "{error}");
        }
    }
    assert!(DeviceChoice::Cuda(999).resolve().is_err());
}

#[test]
fn names_of_devices_and_precisions_read_back() {
    for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(0), DeviceChoice::Cuda(3)] {
        assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        let json = serde_json::to_string(&choice).unwrap();
        assert_eq!(serde_json::from_str::<DeviceChoice>(&json).unwrap(), choice);
    }
    assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
    assert_eq!(
        "gpu".parse::<DeviceChoice>().unwrap_err().to_string(),
        "unknown device \"gpu\": use auto, cpu, cuda or cuda:1"
    );
    for precision in [Precision::F32, Precision::Bf16] {
        assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
        assert_eq!(precision.config_name().parse::<Precision>().unwrap(), precision);
    }
    assert_eq!("f16".parse::<Precision>().unwrap_err().to_string(), "unknown precision \"f16\": use f32 or bf16");
}
