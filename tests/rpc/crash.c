/* Kills the agent in front of its n-th change of the world: loaded into it with LD_PRELOAD, so that every step of an operation is a crash
 * point without a line in the agent. Nothing is counted until CRASH_DIR/at exists, which holds n, and after a space a kind of steps if it is the
 * n-th of these alone; every step goes to CRASH_DIR/steps.
 *
 * Counted: what touches the disk for good (fsync, rename, unlink, rmdir, mkdir, truncation), mounts, programs that are started, and what is
 * written to the socket of the database, or to another member's of its set. What lies between two of these leaves nothing that a power cut could show. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static pid_t agent;
static char at_path[4096], steps_path[4096], wanted[512], guest[4096];
static size_t guest_length;
static atomic_int armed, counted;

__attribute__((constructor)) static void begin(void)
{
    char exe[4096] = "";
    const char *dir = getenv("CRASH_DIR");
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    /* Its children inherit the library; a server may be in a directory of that name. */
    const char *name = length > 0 ? strrchr(exe, '/') : NULL;
    if (dir == NULL || name == NULL || strcmp(name, "/trove-guestagent") != 0)
        return;
    snprintf(at_path, sizeof at_path, "%s/at", dir);
    snprintf(steps_path, sizeof steps_path, "%s/steps", dir);
    /* The guest's directory, which holds CRASH_DIR and is made up. */
    guest_length = strrchr(dir, '/') - dir;
    memcpy(guest, dir, guest_length);
    agent = getpid();
}

static int read_number(void)
{
    char text[512] = "";
    int fd = (int)syscall(SYS_openat, AT_FDCWD, at_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    const char *kind = strchr(text, ' ');
    if (length > 0 && kind != NULL)
        memcpy(wanted, kind + 1, strlen(kind));
    return length > 0 ? atoi(text) : 0;
}

/* Without made-up names: digits, and what unfinished files are called. As `kind` in crash.rs. */
static int is_wanted(const char *line)
{
    const char *end = strstr(line, "/.trove-"), *kind = wanted;
    for (const char *c = line; *c != '\n' && c != end; c++)
        if ((*c < '0' || *c > '9') && *c != *kind++)
            return 0;
    return *kind == 0;
}

static void step(const char *what, const char *name)
{
    int saved = errno;
    if (agent != 0 && getpid() == agent) {
        int n = atomic_load(&armed);
        if (n == 0 && (n = read_number()) != 0)
            atomic_store(&armed, n);
        if (n != 0) {
            char line[512];
            if (name && strncmp(name, guest, guest_length) == 0)
                name += guest_length;
            int length = snprintf(line, sizeof line - 1, "%s %s", what, name ? name : "?");
            if (length > (int)sizeof line - 2)
                length = sizeof line - 2;
            memcpy(line + length++, "\n", 2);
            int counts = wanted[0] == 0 || is_wanted(line);
            int number = atomic_fetch_add(&counted, counts) + counts;
            if (number <= n) {
                int fd = (int)syscall(SYS_openat, AT_FDCWD, steps_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
                syscall(SYS_write, fd, line, length);
                syscall(SYS_close, fd);
            }
            if (counts && number >= n) {
                syscall(SYS_kill, agent, SIGKILL);
                for (;;)
                    pause();
            }
        }
    }
    errno = saved;
}

static void step_fd(const char *what, int fd)
{
    char link[64], path[256];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    step(what, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) { step_fd("fsync", fd); return REAL(fsync)(fd); }
int fdatasync(int fd) { step_fd("fdatasync", fd); return REAL(fdatasync)(fd); }
void sync(void) { step("sync", ""); REAL(sync)(); }
int ftruncate64(int fd, off64_t length) { step_fd("truncate", fd); return REAL(ftruncate64)(fd, length); }
int rename(const char *from, const char *to) { step("rename", to); return REAL(rename)(from, to); }
int unlink(const char *path) { step("unlink", path); return REAL(unlink)(path); }
int unlinkat(int dir, const char *path, int flags) { step("unlink", path); return REAL(unlinkat)(dir, path, flags); }
int rmdir(const char *path) { step("rmdir", path); return REAL(rmdir)(path); }
int mkdir(const char *path, mode_t mode) { step("mkdir", path); return REAL(mkdir)(path, mode); }
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)
{
    step("mount", target);
    return REAL(mount)(source, target, type, flags, data);
}
int umount2(const char *target, int flags) { step("umount", target); return REAL(umount2)(target, flags); }
int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes, char *const argv[], char *const env[])
{
    step("start", file);
    return REAL(posix_spawnp)(pid, file, actions, attributes, argv, env);
}
pid_t fork(void) { step("fork", ""); return REAL(fork)(); }

static int is_peer(int fd, const char *name)
{
    struct sockaddr_un peer;
    socklen_t length = sizeof peer;
    memset(&peer, 0, sizeof peer);
    return agent != 0 && getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.sun_family == AF_UNIX && strstr(peer.sun_path, name) != NULL;
}

/* The words of a statement, for the list; never its values, which may be secrets. */
static void step_statement(const char *bytes, size_t length)
{
    char words[40] = "";
    size_t used = 0;
    for (size_t i = 5; i < length && used < sizeof words - 1 && (bytes[i] == ' ' || (bytes[i] >= 'A' && bytes[i] <= 'Z')); i++)
        words[used++] = bytes[i];
    step("statement", words);
}

/* The name of a command of MongoDB's that changes something: the first field of the document that begins after 21 bytes (OP_MSG). */
static void step_command(const char *bytes, size_t length)
{
    static const char *const changes[] = { "create", "update", "grant", "insert", "setFeatureCompatibilityVersion", "setParameter", "replSetInitiate", "replSetReconfig" };
    char name[40] = "";
    if (length > 26)
        snprintf(name, sizeof name, "%.*s", (int)(length - 26 < 30 ? length - 26 : 30), bytes + 26);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        if (strncmp(name, changes[i], strlen(changes[i])) == 0)
            step("command", name);
}

/* OP_MSG (2013): also over TCP, as to the primary of a set. */
static int is_command(const char *bytes, size_t length)
{
    int head[4];
    if (length <= 26)
        return 0;
    memcpy(head, bytes, sizeof head);
    return head[3] == 2013;
}

static void step_database(int fd, const char *bytes, size_t length)
{
    if (is_peer(fd, "mysqld.sock") || is_peer(fd, ".s.PGSQL."))
        step_statement(bytes, length);
    else if (is_command(bytes, length))
        step_command(bytes, length);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    int saved = errno;
    step_database(fd, bytes, length);
    errno = saved;
    return REAL(write)(fd, bytes, length);
}
ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    int saved = errno;
    step_database(fd, bytes, length);
    errno = saved;
    return REAL(send)(fd, bytes, length, flags);
}
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    int saved = errno;
    step_database(fd, count > 0 ? parts[0].iov_base : "", count > 0 ? parts[0].iov_len : 0);
    errno = saved;
    return REAL(writev)(fd, parts, count);
}
