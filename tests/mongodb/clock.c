/* Gives a server a wall clock that is CLOCK_SKEW seconds off: loaded into it with LD_PRELOAD. Guests of one machine have one clock, and a time namespace shifts only the
 * monotonic one.
 *
 * Only the wall clock is shifted, and all that mongod asks it by. A wait until a time of that clock is made one until a time of the real one: without that a server an hour
 * ahead waits an hour too long whenever it waits, its end included. Times of the monotonic clock, which the same functions are given, are far smaller numbers. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* No machine is up for so long, and no wall clock is so far behind: 2001. */
#define WALL 1000000000

static long skew;

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("CLOCK_SKEW");
    skew = text == NULL ? 0 : atol(text);
}

/* Unversioned, the oldest version would be found, whose conditions are of another layout. */
static void *real(const char *name, const char *version)
{
    void *found = dlvsym(RTLD_NEXT, name, version);
    return found != NULL ? found : dlsym(RTLD_NEXT, name);
}

static const struct timespec *unshifted(const struct timespec *at, struct timespec *own)
{
    if (at == NULL || at->tv_sec < WALL)
        return at;
    *own = *at;
    own->tv_sec -= skew;
    return own;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += skew;
    return (int)result;
}

int gettimeofday(struct timeval *now, void *zone)
{
    long result = syscall(SYS_gettimeofday, now, zone);
    if (result == 0)
        now->tv_sec += skew;
    return (int)result;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *at)
{
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec own;
    if (next == NULL)
        next = real("pthread_cond_timedwait", "GLIBC_2.3.2");
    return next(condition, mutex, unshifted(at, &own));
}

int sem_timedwait(sem_t *semaphore, const struct timespec *at)
{
    static int (*next)(sem_t *, const struct timespec *);
    struct timespec own;
    if (next == NULL)
        next = real("sem_timedwait", "GLIBC_2.34");
    return next(semaphore, unshifted(at, &own));
}
