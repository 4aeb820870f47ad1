//! The data volume, on loop devices.

use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::OwnedRwLockReadGuard;
use trove_guestagent::config::VolumeSettings;
use trove_guestagent::system::command::{CommandRunner, CommandSpec, SystemCommands, spawn_detached};
use trove_guestagent::volume::{Existing, FileSystem, Formatted, Volume, filesystem_stats};

use super::support::{MOUNTS, op, run, scratch, wait_until};

fn write_at(device: &str, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let device = std::fs::OpenOptions::new().write(true).open(device).unwrap();
    device.write_all_at(bytes, offset).unwrap();
    device.sync_all().unwrap();
}

fn settings(device: &str, fstype: &str) -> VolumeSettings {
    VolumeSettings {
        device_path: device.into(),
        fstype: fstype.to_owned(),
        format_options: if fstype == "xfs" { Vec::new() } else { vec!["-m".to_owned(), "5".to_owned()] },
        format_timeout: Duration::from_secs(120),
        mount_options: "defaults,noatime".to_owned(),
        num_tries: 2,
        readahead: None,
    }
}

/// A block device of the test's own.
struct Disk {
    _mounts: OwnedRwLockReadGuard<()>,
    dir: Utf8PathBuf,
    device: String,
    volume: Volume,
    _dir: tempfile::TempDir,
}

impl Disk {
    async fn new(fstype: &str, size: &str) -> Self {
        let mounts = Arc::clone(&MOUNTS).read_owned().await;
        let (guard, dir) = scratch();
        let image = dir.join("image");
        run(&["truncate", "-s", size, image.as_str()]).await;
        let device = run(&["losetup", "--find", "--show", image.as_str()]).await.trim().to_owned();
        let volume = Volume::new(device.as_str(), &settings(&device, fstype), Arc::new(SystemCommands)).with_fstab(dir.join("fstab"));
        Disk { _mounts: mounts, dir, device, volume, _dir: guard }
    }

    /// What Cinder does when a volume is extended.
    async fn extend(&self, size: &str) {
        run(&["truncate", "-s", size, self.dir.join("image").as_str()]).await;
        run(&["losetup", "--set-capacity", &self.device]).await;
    }

    /// Writes a partition table with one Linux partition.
    fn partition(&self) {
        let mut entry = [0_u8; 16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&2048_u32.to_le_bytes());
        entry[12..].copy_from_slice(&40960_u32.to_le_bytes());
        write_at(&self.device, 446, &entry);
        write_at(&self.device, 510, &[0x55, 0xaa]);
    }

    /// This disk's place, asked for by another path.
    fn asked_as(&self, device: &str) -> Volume {
        Volume::new(device, &settings(device, "ext4"), Arc::new(SystemCommands)).with_fstab(self.dir.join("fstab"))
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
        let uuid = run(&["blkid", "-p", "-o", "value", "-s", "UUID", &disk.device]).await;
        let options = "defaults,noatime,nofail,x-systemd.before=local-fs.target,x-systemd.device-timeout=30s";
        let line = format!("UUID={}\t{escaped}\t{fstype}\t{options}\t0\t0\n", uuid.trim());
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
    run(&["wipefs", "--all", &disk.device]).await;
    // Headers as cryptsetup and LVM write them, the latter with its checksum.
    let mut lvm = [0; 512];
    lvm[..8].copy_from_slice(b"LABELONE");
    lvm[8] = 1;
    lvm[16..24].copy_from_slice(&[0x8b, 0xab, 0x18, 0, 32, 0, 0, 0]);
    lvm[24..32].copy_from_slice(b"LVM2 001");
    lvm[32..64].fill(b'A');
    for (offset, header, kind) in [(0, &b"LUKS\xba\xbe\0\x01"[..], "crypto_LUKS"), (512, &lvm, "LVM2_member")] {
        write_at(&disk.device, offset, header);
        let error = disk.volume.ensure_formatted(&op(), Existing::Keep).await.unwrap_err();
        assert!(error.to_string().contains(&format!("it holds a {kind} signature")), "{error}");
        run(&["wipefs", "--all", &disk.device]).await;
    }
    // Blanked like that, it was told to drop.
    assert_eq!(disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap(), Formatted::New);
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
    let settings = settings("/dev/no-such", "ext4");
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

#[tokio::test]
async fn the_volume_is_found_by_its_file_system_whatever_it_is_called() {
    let disk = Disk::new("ext4", "64M").await;
    disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    let point = disk.dir.join("mnt");
    disk.volume.mount(&op(), &point, true).await.unwrap();
    std::fs::write(point.join("row"), "data").unwrap();
    disk.volume.release(&op(), &point).await.unwrap();
    let link = disk.dir.join("by-id");
    std::os::unix::fs::symlink(&disk.device, &link).unwrap();
    let (blank, other) = (Disk::new("ext4", "64M").await, Disk::new("ext4", "64M").await);
    other.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    // By its own name, by a link, and by names of nothing and of other disks.
    for (asked, found) in [
        (disk.device.as_str(), disk.device.as_str()),
        (link.as_str(), link.as_str()),
        ("/dev/no-such", &disk.device),
        (&blank.device, &disk.device),
        (&other.device, &disk.device),
        (disk.dir.join("image").as_str(), &disk.device),
    ] {
        let volume = disk.asked_as(asked).of_mount_point(&op(), &point).await.unwrap();
        assert_eq!(volume.device(), found, "asked for as {asked}");
        volume.mount(&op(), &point, false).await.unwrap();
        assert_eq!(std::fs::read_to_string(point.join("row")).unwrap(), "data");
        assert_eq!(disk.asked_as(link.as_str()).mount_points().unwrap(), std::slice::from_ref(&point));
        disk.asked_as(asked).release(&op(), &point).await.unwrap();
    }
    assert!(blank.volume.resize(&op(), false).await.unwrap_err().to_string().contains("has no file system"));
    // What is mounted there after all is left alone; what is not is mounted as at a boot.
    assert!(disk.asked_as("/dev/no-such").bring_back(&op(), &point).await.unwrap());
    assert!(!disk.asked_as("/dev/no-such").bring_back(&op(), &point).await.unwrap());
    disk.volume.release(&op(), &point).await.unwrap();
    assert!(!disk.volume.bring_back(&op(), &disk.dir.join("no-place-of-a-volume")).await.unwrap());
}

#[tokio::test]
async fn a_volume_that_is_not_attached_or_attached_twice_is_not_guessed() {
    let disk = Disk::new("ext4", "64M").await;
    disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    let point = disk.dir.join("mnt");
    disk.volume.mount(&op(), &point, true).await.unwrap();
    disk.volume.release(&op(), &point).await.unwrap();
    let copy = Disk::new("ext4", "64M").await;
    run(&["dd", &format!("if={}", disk.device), &format!("of={}", copy.device), "bs=1M", "status=none"]).await;
    // The one that is asked for is a good answer; neither of them is not.
    assert_eq!(disk.asked_as(&copy.device).of_mount_point(&op(), &point).await.unwrap().device(), copy.device.as_str());
    let error = disk.asked_as("/dev/no-such").of_mount_point(&op(), &point).await.unwrap_err();
    assert!(error.to_string().contains("detach the copies"), "{error}");
    for device in [&disk.device, &copy.device] {
        run(&["wipefs", "--all", device]).await;
    }
    let error = disk.volume.of_mount_point(&op(), &point).await.unwrap_err();
    assert!(error.to_string().contains("it is blank. The file system of"), "{error}");
    let error = disk.volume.bring_back(&op(), &point).await.unwrap_err();
    assert!(error.to_string().contains("is not mounted at"), "{error}");
    assert!(error.to_string().contains("is the volume attached?"), "{error}");
}

#[tokio::test]
async fn a_volume_is_let_go_of_everywhere() {
    let disk = Disk::new("ext4", "64M").await;
    disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    let (point, other) = (disk.dir.join("mnt"), disk.dir.join("other"));
    disk.volume.mount(&op(), &point, false).await.unwrap();
    disk.volume.mount(&op(), &other, false).await.unwrap();
    // By where it is mounted: the name is out of date.
    disk.asked_as("/dev/no-such").release(&op(), &point).await.unwrap();
    assert!(disk.volume.mount_points().unwrap().is_empty());
    disk.volume.release(&op(), &point).await.unwrap();

    disk.volume.mount(&op(), &point, false).await.unwrap();
    let below = Disk::new("ext4", "64M").await;
    below.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    below.volume.mount(&op(), &point.join("below"), false).await.unwrap();
    let error = disk.volume.release(&op(), &point).await.unwrap_err();
    assert!(error.to_string().contains(&format!("{} is mounted below it", below.device)), "{error}");
    below.volume.release(&op(), &point.join("below")).await.unwrap();

    // A program with mounts of its own, as in a container, keeps the volume when the guest has let go of it.
    let log = std::fs::File::create(disk.dir.join("log")).unwrap();
    let container = CommandSpec::new("unshare").args(["--mount", "--propagation", "private", "sleep", "infinity"]);
    let mut container = spawn_detached(&container, log).unwrap();
    let name = format!("sleep ({})", container.id().unwrap());
    let comm = format!("/proc/{}/comm", container.id().unwrap());
    wait_until("the program to run", Duration::from_secs(10), async || {
        std::fs::read_to_string(&comm).unwrap_or_default().trim() == "sleep"
    })
    .await;
    let error = disk.volume.release(&op(), &point).await.unwrap_err();
    assert!(error.to_string().contains(&format!("{name} still has the volume mounted for itself")), "{error}");
    let error = disk.volume.resize(&op(), false).await.unwrap_err();
    assert!(error.to_string().contains(&name), "{error}");
    // One that ends soon is waited for.
    disk.volume.mount(&op(), &point, false).await.unwrap();
    let end = async {
        wait_until("the volume to be unmounted", Duration::from_secs(10), async || disk.volume.mount_points().unwrap().is_empty()).await;
        container.kill().await.unwrap();
    };
    let (resized, ()) = tokio::join!(async { disk.volume.resize(&op(), false).await }, end);
    resized.unwrap();
    disk.volume.release(&op(), &point).await.unwrap();
    disk.volume.resize(&op(), false).await.unwrap();
}

#[tokio::test]
async fn a_volume_that_is_too_small_is_refused_in_the_tools_own_words() {
    let disk = Disk::new("xfs", "64M").await;
    let error = disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap_err();
    assert!(error.to_string().contains("300MB"), "{error}");
    // It is as blank as before: with another file system the same request succeeds.
    disk.asked_as(&disk.device).ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    // More data than there is room for: the volume is let go of, and the request can be repeated.
    let source = disk.dir.join("packaged");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("ibdata1"), vec![7; 100 << 20]).unwrap();
    let error = disk.volume.migrate_data(&op(), &source, Some(Utf8Path::new("data"))).await.unwrap_err();
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert!(disk.volume.mount_points().unwrap().is_empty());
    std::fs::write(source.join("ibdata1"), vec![7; 1 << 20]).unwrap();
    disk.volume.migrate_data(&op(), &source, Some(Utf8Path::new("data"))).await.unwrap();
    // Smaller than what is on it: neither grown nor mounted, and not cut off.
    disk.extend("32M").await;
    disk.volume.resize(&op(), false).await.unwrap_err();
    disk.volume.mount(&op(), &disk.dir.join("mnt"), false).await.unwrap_err();
    disk.extend("64M").await;
    disk.volume.mount(&op(), &disk.dir.join("mnt"), false).await.unwrap();
    assert_eq!(std::fs::metadata(disk.dir.join("mnt/data/ibdata1")).unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn formatting_that_fails_or_takes_too_long_leaves_a_blank_device() {
    let mut hopeless = settings("", "ext4");
    hopeless.format_options = vec!["-O".to_owned(), "no-such-feature".to_owned()];
    let mut hasty = settings("", "xfs");
    hasty.format_timeout = Duration::from_millis(1);
    for settings in [hopeless, hasty] {
        let disk = Disk::new("ext4", "400M").await;
        let volume = Volume::new(disk.device.as_str(), &settings, Arc::new(SystemCommands));
        let error = volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("failed to format {}", disk.device)), "{error}");
        assert_eq!(disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap(), Formatted::New);
    }
}

#[tokio::test]
async fn the_kernel_reads_ahead_as_far_as_it_is_told() {
    let disk = Disk::new("ext4", "64M").await;
    disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    let settings = VolumeSettings { readahead: Some(2048), ..settings(&disk.device, "ext4") };
    let volume = Volume::new(disk.device.as_str(), &settings, Arc::new(SystemCommands));
    volume.mount(&op(), &disk.dir.join("mnt"), false).await.unwrap();
    assert_eq!(run(&["blockdev", "--getra", &disk.device]).await.trim(), "2048");
}

/// systemd's own reading of the line: a boot waits for the volume before it starts a database, and goes on without it.
#[tokio::test]
async fn the_boot_waits_for_the_volume_and_does_not_fail_without_it() {
    let disk = Disk::new("ext4", "64M").await;
    disk.volume.ensure_formatted(&op(), Existing::Refuse).await.unwrap();
    disk.volume.mount(&op(), &disk.dir.join("mnt"), true).await.unwrap();
    let units = disk.dir.join("units");
    std::fs::create_dir(&units).unwrap();
    let generator = CommandSpec::new("/usr/lib/systemd/system-generators/systemd-fstab-generator")
        .args([&units; 3])
        .env("SYSTEMD_FSTAB", disk.dir.join("fstab"));
    SystemCommands.run(&op(), generator).await.unwrap();
    let escaped = run(&["systemd-escape", "--path", "--suffix=mount", disk.dir.join("mnt").as_str()]).await;
    let unit = std::fs::read_to_string(units.join(escaped.trim())).unwrap();
    assert!(unit.contains("Before=local-fs.target"), "{unit}");
    assert!(units.join("local-fs.target.wants").join(escaped.trim()).is_symlink());
    assert!(!units.join("local-fs.target.requires").exists());
}
