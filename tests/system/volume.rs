//! The data volume, on loop devices.

use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use trove_guestagent::config::VolumeSettings;
use trove_guestagent::system::command::{CommandRunner, CommandSpec, SystemCommands};
use trove_guestagent::volume::{Existing, FileSystem, Formatted, Volume, filesystem_stats};

use super::support::{op, run, scratch};

/// A block device of the test's own.
struct Disk {
    dir: Utf8PathBuf,
    device: String,
    volume: Volume,
    _dir: tempfile::TempDir,
}

impl Disk {
    async fn new(fstype: &str, size: &str) -> Self {
        let (guard, dir) = scratch();
        let image = dir.join("image");
        run(&["truncate", "-s", size, image.as_str()]).await;
        let device = run(&["losetup", "--find", "--show", image.as_str()]).await.trim().to_owned();
        let settings = VolumeSettings {
            device_path: device.clone().into(),
            fstype: fstype.to_owned(),
            format_options: if fstype == "xfs" { Vec::new() } else { vec!["-m".to_owned(), "5".to_owned()] },
            format_timeout: Duration::from_secs(120),
            mount_options: "defaults,noatime".to_owned(),
            num_tries: 3,
        };
        let volume = Volume::new(device.as_str(), &settings, Arc::new(SystemCommands)).with_fstab(dir.join("fstab"));
        Disk { dir, device, volume, _dir: guard }
    }

    /// What Cinder does when a volume is extended.
    async fn extend(&self, size: &str) {
        run(&["truncate", "-s", size, self.dir.join("image").as_str()]).await;
        run(&["losetup", "--set-capacity", &self.device]).await;
    }

    /// Writes a partition table with one Linux partition.
    fn partition(&self) {
        use std::os::unix::fs::FileExt;
        let mut entry = [0_u8; 16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&2048_u32.to_le_bytes());
        entry[12..].copy_from_slice(&40960_u32.to_le_bytes());
        let device = std::fs::OpenOptions::new().write(true).open(&self.device).unwrap();
        device.write_all_at(&entry, 446).unwrap();
        device.write_all_at(&[0x55, 0xaa], 510).unwrap();
        device.sync_all().unwrap();
    }

    fn size_of(mount_point: &Utf8Path) -> u64 {
        let stats = filesystem_stats(mount_point).unwrap();
        stats.total_blocks * stats.block_size
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for point in self.volume.mount_points().unwrap_or_default() {
            nix::mount::umount2(point.as_std_path(), nix::mount::MntFlags::MNT_DETACH).ok();
        }
        let device = self.device.clone();
        // Drop cannot wait for the runtime of the test it runs in.
        let detach = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // A partition added by hand would outlive the loop device's file. Most disks have none.
                let partition = CommandSpec::new("delpart").args([&device, "1"]).accept(&[1]);
                SystemCommands.run(&op(), partition).await.ok();
                run(&["losetup", "--detach", &device]).await;
            });
        });
        detach.join().ok();
    }
}

#[tokio::test]
async fn a_blank_device_is_formatted_once_mounted_and_written_to_fstab() {
    for fstype in ["ext3", "ext4", "xfs"] {
        let disk = Disk::new(fstype, "400M").await;
        let (volume, point) = (&disk.volume, disk.dir.join("mnt/my sql"));
        assert_eq!(volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap(), Formatted::New);
        let kind: FileSystem = fstype.parse().unwrap();
        // Still empty: repeating the request is fine.
        assert_eq!(volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap(), Formatted::AlreadyThere(kind));
        volume.check(&op()).await.unwrap();
        volume.mount(&op(), &point, true).await.unwrap();
        volume.mount(&op(), &point, true).await.unwrap();
        assert_eq!(volume.mount_points().unwrap(), std::slice::from_ref(&point));
        let options = run(&["findmnt", "-n", "-o", "OPTIONS", &disk.device]).await;
        assert!(options.contains("noatime"), "{options}");
        let escaped = point.as_str().replace(' ', "\\040");
        let line = format!("{}\t{escaped}\t{fstype}\tdefaults,noatime,nofail\t0\t0\n", disk.device);
        assert_eq!(std::fs::read_to_string(disk.dir.join("fstab")).unwrap(), line);
        // The system reads the line as it was meant.
        let read = run(&["findmnt", "-n", "--raw", "-o", "TARGET", "--tab-file", disk.dir.join("fstab").as_str()]).await;
        assert_eq!(read.trim(), point.as_str().replace(' ', "\\x20"));
        std::fs::write(point.join("row"), "data").unwrap();
        volume.unmount(&op(), &point).await.unwrap();
        volume.unmount(&op(), &point).await.unwrap();
        assert!(volume.mount_points().unwrap().is_empty());
        let error = volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap_err();
        assert!(error.to_string().contains(&format!("it holds a file system ({fstype}) with files on it")), "{error}");
        assert_eq!(volume.ensure_formatted(&op(), Existing::Keep).await.unwrap(), Formatted::AlreadyThere(kind));
        volume.mount(&op(), &point, false).await.unwrap();
        assert_eq!(std::fs::read_to_string(point.join("row")).unwrap(), "data");
    }
}

#[tokio::test]
async fn a_device_with_anything_else_on_it_is_never_formatted() {
    let disk = Disk::new("ext4", "64M").await;
    run(&["mkswap", &disk.device]).await;
    let before = run(&["md5sum", disk.dir.join("image").as_str()]).await;
    for existing in [Existing::Keep, Existing::Refuse] {
        let error = disk.volume.ensure_formatted(&op(), existing).await.unwrap_err();
        assert!(error.to_string().contains("it holds a swap signature"), "{error}");
    }
    assert_eq!(run(&["md5sum", disk.dir.join("image").as_str()]).await, before);
    run(&["wipefs", "--all", &disk.device]).await;
    disk.partition();
    let error = disk.volume.ensure_formatted(&op(), Existing::Keep).await.unwrap_err();
    assert!(error.to_string().contains("it holds a partition table (dos)"), "{error}");
}

#[tokio::test]
async fn a_partition_is_not_its_disk() {
    let disk = Disk::new("ext4", "128M").await;
    // Told to the kernel by hand: it need not know partition tables.
    run(&["addpart", &disk.device, "1", "2048", "200000"]).await;
    let partition = format!("{}p1", disk.device);
    // Without udev nobody makes the node.
    if !Utf8Path::new(&partition).exists() {
        let name = disk.device.trim_start_matches("/dev/");
        let number = std::fs::read_to_string(format!("/sys/block/{name}/{name}p1/dev")).unwrap();
        let (major, minor) = number.trim().split_once(':').unwrap();
        run(&["mknod", &partition, "b", major, minor]).await;
    }
    run(&["mkfs.ext4", "-q", &partition]).await;
    let point = disk.dir.join("mnt");
    std::fs::create_dir(&point).unwrap();
    run(&["mount", &partition, point.as_str()]).await;
    assert!(disk.volume.mount_points().unwrap().is_empty());
    run(&["umount", point.as_str()]).await;
    std::fs::remove_file(&partition).ok();
}

#[tokio::test]
async fn a_device_that_is_not_there_or_no_device_is_named() {
    let disk = Disk::new("ext4", "64M").await;
    let settings = VolumeSettings {
        device_path: "/dev/no-such".into(),
        fstype: "ext4".into(),
        format_options: Vec::new(),
        format_timeout: Duration::from_secs(10),
        mount_options: String::new(),
        num_tries: 2,
    };
    let volume = |device: &Utf8Path| Volume::new(device, &settings, Arc::new(SystemCommands));
    let error = volume("/dev/no-such".into()).ensure_formatted(&op(), Existing::Keep).await.unwrap_err();
    assert!(error.to_string().starts_with("Device '/dev/no-such' is not ready: it was not there in 2 attempts"), "{error}");
    assert!(volume("/dev/no-such".into()).mount_points().unwrap().is_empty());
    let image = disk.dir.join("image");
    let error = volume(&image).ensure_formatted(&op(), Existing::Keep).await.unwrap_err();
    assert!(error.to_string().contains("is not a block device"), "{error}");
}

#[tokio::test]
async fn a_busy_volume_names_who_holds_it() {
    let disk = Disk::new("ext4", "64M").await;
    disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    let (one, two) = (disk.dir.join("one"), disk.dir.join("two"));
    disk.volume.mount(&op(), &one, false).await.unwrap();
    disk.volume.mount(&op(), &two, false).await.unwrap();
    assert_eq!(disk.volume.mount_points().unwrap(), [two.clone(), one.clone()]);
    // Something else is in the way of another volume.
    let other = Disk::new("ext4", "64M").await;
    other.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    let error = other.volume.mount(&op(), &one, false).await.unwrap_err();
    assert!(error.to_string().contains(&format!("{} is mounted there", disk.device)), "{error}");
    let file = std::fs::File::create(two.join("open")).unwrap();
    let error = disk.volume.unmount_all(&op()).await.unwrap_err();
    assert!(error.to_string().contains(&format!("({})", std::process::id())), "{error}");
    drop(file);
    disk.volume.unmount_all(&op()).await.unwrap();
    assert!(disk.volume.mount_points().unwrap().is_empty());
}

#[tokio::test]
async fn data_moves_to_the_volume_with_owners_modes_and_links() {
    use std::os::unix::fs::MetadataExt;
    let disk = Disk::new("ext4", "64M").await;
    disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    let source = disk.dir.join("packaged");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("ibdata1"), vec![7; 100_000]).unwrap();
    std::fs::hard_link(source.join("ibdata1"), source.join("linked")).unwrap();
    std::os::unix::fs::symlink("ibdata1", source.join("symbolic")).unwrap();
    run(&["chown", "-R", "nobody", source.as_str()]).await;
    run(&["chmod", "0750", source.as_str()]).await;
    disk.volume.migrate_data(&op(), &source, Some(Utf8Path::new("data"))).await.unwrap();
    assert!(disk.volume.mount_points().unwrap().is_empty());
    let point = disk.dir.join("mnt");
    disk.volume.mount(&op(), &point, false).await.unwrap();
    let data = point.join("data");
    assert_eq!(std::fs::read(data.join("ibdata1")).unwrap(), vec![7; 100_000]);
    assert_eq!(std::fs::read_link(data.join("symbolic")).unwrap().to_str(), Some("ibdata1"));
    let (old, new) = (std::fs::metadata(&source).unwrap(), std::fs::metadata(&data).unwrap());
    assert_eq!((new.uid(), new.mode() & 0o777), (old.uid(), 0o750));
    assert_eq!(std::fs::metadata(data.join("linked")).unwrap().nlink(), 2);
    for wrong in ["/etc", "../etc"] {
        disk.volume.migrate_data(&op(), &source, Some(Utf8Path::new(wrong))).await.unwrap_err();
    }
    let error = disk.volume.migrate_data(&op(), Utf8Path::new("/no/such"), None).await.unwrap_err();
    assert!(error.to_string().starts_with("there is no directory /no/such"), "{error}");
}

/// CAP_SYS_RESOURCE, which ext4 wants for that and some containers' root does not have.
fn may_resize_ext_online() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() & (1 << 24) != 0
}

#[tokio::test]
async fn a_file_system_grows_offline_and_online() {
    for fstype in ["ext4", "xfs"] {
        let disk = Disk::new(fstype, "400M").await;
        disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
        let point = disk.dir.join("mnt");
        disk.volume.mount(&op(), &point, false).await.unwrap();
        std::fs::write(point.join("row"), "data").unwrap();
        let small = Disk::size_of(&point);
        disk.extend("500M").await;
        // Offline although still mounted: as after an automatic mount.
        disk.volume.resize(&op(), false).await.unwrap();
        assert!(disk.volume.mount_points().unwrap().is_empty());
        disk.volume.mount(&op(), &point, false).await.unwrap();
        let larger = Disk::size_of(&point);
        assert!(larger > small + (80 << 20), "{fstype}: {small} -> {larger}");
        disk.extend("600M").await;
        let held = std::fs::File::open(point.join("row")).unwrap();
        let grown = disk.volume.resize(&op(), true).await;
        if fstype == "xfs" || may_resize_ext_online() {
            grown.unwrap();
            assert!(Disk::size_of(&point) > larger + (80 << 20));
        } else {
            let error = grown.unwrap_err();
            assert!(error.to_string().contains("Permission denied to resize filesystem"), "{error}");
        }
        let error = disk.volume.resize(&op(), false).await.unwrap_err();
        assert!(error.to_string().contains("in use by"), "{error}");
        drop(held);
        assert_eq!(std::fs::read_to_string(point.join("row")).unwrap(), "data");
    }
}

#[tokio::test]
async fn a_damaged_file_system_is_corrected_before_it_grows() {
    let disk = Disk::new("ext4", "64M").await;
    disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    // A wrong count of free blocks: e2fsck -p corrects it and ends with 1.
    run(&["debugfs", "-w", "-R", "set_super_value free_blocks_count 7", &disk.device]).await;
    disk.extend("128M").await;
    disk.volume.resize(&op(), false).await.unwrap();
    run(&["e2fsck", "-f", "-n", &disk.device]).await;
    let blank = Disk::new("ext4", "64M").await;
    let error = blank.volume.resize(&op(), false).await.unwrap_err();
    assert!(error.to_string().contains("has no file system to grow"), "{error}");
}
