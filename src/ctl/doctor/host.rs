//! The volume and the disks.

use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::finding::Finding;
use super::patient::Patient;
use crate::volume;

const VOLUME: &str = "volume";
const DISK: &str = "disk";

/// What should be free: a part of the file system in percent, or so many bytes, whichever is less. Below the first is a warning, below the second it is broken.
const LITTLE: (u64, u64) = (10, 10 << 30);
const TOO_LITTLE: (u64, u64) = (2, 1 << 30);

pub(super) fn volume(patient: &Patient) -> Vec<Finding> {
    let point = patient.manager.mount_point();
    match volume::is_missing(&point) {
        Err(error) => vec![Finding::failed(VOLUME, error.to_string(), "see to /etc/fstab and /proc")],
        Ok(true) => {
            let found = format!("/etc/fstab has a volume for {point}, and it is not mounted: the data is not there");
            vec![Finding::failed(VOLUME, found, format!("attach the volume, then: mount {point}"))]
        }
        Ok(false) if !point.exists() => vec![Finding::skipped(VOLUME, format!("there is no {point} yet"))],
        Ok(false) => vec![room(VOLUME, &point)],
    }
}

/// Where the agent writes, one finding a file system.
pub(super) fn disks(patient: &Patient) -> Vec<Finding> {
    let settings = &patient.settings;
    let mut places: Vec<Utf8PathBuf> = vec![settings.state_dir.clone(), "/etc".into()];
    places.extend(settings.log.file.as_ref().and_then(|file| file.parent()).map(Utf8Path::to_owned));
    places.extend(settings.backup.spool_dir.clone());
    places.extend(settings.backup.drill_dir.clone());
    let mut seen = Vec::new();
    let mut findings = Vec::new();
    for place in places {
        match std::fs::metadata(&place) {
            Err(error) => {
                findings.push(Finding::failed(DISK, format!("{place}: {error}"), "make the directory, or correct the option that names it"))
            }
            Ok(found) if seen.contains(&found.dev()) => {}
            Ok(found) => {
                seen.push(found.dev());
                findings.push(room(DISK, &place));
            }
        }
    }
    findings
}

fn room(check: &'static str, place: &Utf8Path) -> Finding {
    let stats = match statvfs(place.as_std_path()) {
        Ok(stats) => stats,
        Err(error) => {
            return Finding::failed(check, format!("{place}: {error}"), "see to the disk: the kernel's log says what is wrong with it");
        }
    };
    if stats.flags().contains(FsFlags::ST_RDONLY) {
        let found = format!("{place} is mounted read-only");
        return Finding::failed(
            check,
            found,
            "the kernel does that to a damaged file system: look at its log, check the file system, mount it again",
        );
    }
    let block = stats.fragment_size();
    let (free, all) = (stats.blocks_available().saturating_mul(block), stats.blocks().saturating_mul(block));
    let words = format!("{place}: {} of {} free", bytes(free), bytes(all));
    let advice = "make room, or have the controller resize the volume";
    // Some file systems have no number of inodes.
    let (inodes, all_inodes) = (stats.files_available(), stats.files());
    let few = |(percent, _): (u64, u64)| all_inodes > 0 && inodes < all_inodes / 100 * percent;
    let short = |(percent, bytes): (u64, u64)| free < (all / 100 * percent).min(bytes);
    let inodes_left = format!("{place}: {inodes} of {all_inodes} inodes free");
    match () {
        () if few(TOO_LITTLE) => Finding::failed(check, inodes_left, advice),
        () if short(TOO_LITTLE) => Finding::failed(check, words, advice),
        () if few(LITTLE) => Finding::warning(check, inodes_left, advice),
        () if short(LITTLE) => Finding::warning(check, words, advice),
        () => Finding::ok(check, words),
    }
}

fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}
