//! The root volume that an image brings.
//!
//! Given: an image as EC2 describes it. Given back: the volume that a launch has to ask encryption for. One that is
//! encrypted by itself is not among them: asking again, without its key, could change the key.

use aws_sdk_ec2::types as ec2;

use crate::model::node_class::PlainRoot;

/// The root volume, if it is one of EBS and not encrypted by itself.
pub(super) fn plain(image: &ec2::Image) -> Option<PlainRoot> {
    let is_elsewhere = |kind: &ec2::DeviceType| *kind == ec2::DeviceType::InstanceStore;
    if image.root_device_type().is_some_and(is_elsewhere) {
        return None;
    }
    let device_name = image.root_device_name().filter(|name| !name.is_empty())?;
    let ebs = image
        .block_device_mappings()
        .iter()
        .find(|mapping| mapping.device_name() == Some(device_name))
        .and_then(ec2::BlockDeviceMapping::ebs);
    if ebs.and_then(ec2::EbsBlockDevice::encrypted) == Some(true) {
        return None;
    }
    Some(PlainRoot {
        device_name: device_name.to_owned(),
        delete_on_termination: ebs
            .and_then(ec2::EbsBlockDevice::delete_on_termination)
            .unwrap_or(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(kind: ec2::DeviceType, ebs: Option<ec2::EbsBlockDevice>) -> ec2::Image {
        let other = ec2::BlockDeviceMapping::builder()
            .device_name("/dev/sdb")
            .ebs(ec2::EbsBlockDevice::builder().encrypted(true).build())
            .build();
        let root = ec2::BlockDeviceMapping::builder()
            .device_name("/dev/sda1")
            .set_ebs(ebs)
            .build();
        ec2::Image::builder()
            .root_device_type(kind)
            .root_device_name("/dev/sda1")
            .block_device_mappings(other)
            .block_device_mappings(root)
            .build()
    }

    #[test]
    fn a_root_volume_that_nobody_encrypted_is_told_with_whether_it_goes_with_its_machine() {
        let told = |goes: Option<bool>| {
            let ebs = ec2::EbsBlockDevice::builder()
                .set_delete_on_termination(goes)
                .build();
            plain(&image(ec2::DeviceType::Ebs, Some(ebs)))
        };
        for (goes, expected) in [(None, true), (Some(true), true), (Some(false), false)] {
            let root = PlainRoot {
                device_name: "/dev/sda1".to_owned(),
                delete_on_termination: expected,
            };
            assert_eq!(told(goes), Some(root), "{goes:?}");
        }
    }

    #[test]
    fn a_root_volume_with_a_key_of_its_own_keeps_it_and_an_instance_store_has_none() {
        let encrypted = ec2::EbsBlockDevice::builder().encrypted(true).build();
        assert_eq!(plain(&image(ec2::DeviceType::Ebs, Some(encrypted))), None);
        assert_eq!(plain(&image(ec2::DeviceType::InstanceStore, None)), None);
        assert_eq!(plain(&ec2::Image::builder().build()), None);
    }
}
