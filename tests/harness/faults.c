/* Faults of a machine, switched on and off while a program runs with this library preloaded (see faults.py):
 * a disk that is full or returns errors, for files below one directory; a wall clock that jumps.
 *
 * What is on stands in a small file that is mapped into every process: the test writes it, and it counts at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct faults {
    int32_t full;        /* writing fails with ENOSPC */
    int32_t sync_fails;  /* fsync and fdatasync fail with EIO */
    int32_t write_fails; /* writing fails with EIO */
    int32_t read_fails;  /* reading fails with EIO */
    int32_t of_thousand; /* how many of a thousand calls a fault hits */
    int32_t reserved;
    int64_t clock_seconds; /* added to the wall clock */
};

static volatile struct faults *on;
static char directory[PATH_MAX];
static size_t directory_length;

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("LETTERLOCK_FAULTS");
    const char *where = getenv("LETTERLOCK_FAULTS_BELOW");
    if (!file || !where)
        return;
    snprintf(directory, sizeof directory, "%s/", where);
    directory_length = strlen(directory);
    int descriptor = open(file, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    void *mapped = mmap(NULL, sizeof(struct faults), PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (mapped != MAP_FAILED)
        on = mapped;
}

static int hits(void)
{
    static __thread unsigned seed;
    if (on->of_thousand >= 1000)
        return 1;
    if (!seed)
        seed = (unsigned)(uintptr_t)&seed ^ (unsigned)getpid();
    return rand_r(&seed) % 1000 < on->of_thousand;
}

static int below(int descriptor)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length > (ssize_t)directory_length && !memcmp(path, directory, directory_length);
}

/* The error of a write to `descriptor`; 0: none. */
static int write_error(int descriptor)
{
    if (!on || !(on->full || on->write_fails) || !below(descriptor) || !hits())
        return 0;
    return on->full ? ENOSPC : EIO;
}

static int sync_error(int descriptor)
{
    return on && on->sync_fails && below(descriptor) && hits() ? EIO : 0;
}

static int read_error(int descriptor)
{
    return on && on->read_fails && below(descriptor) && hits() ? EIO : 0;
}

#define REAL(name) (__extension__({ static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name); real; }))
#define UNLESS(problem) do { int error_ = (problem); if (error_) { errno = error_; return -1; } } while (0)

ssize_t write(int fd, const void *data, size_t size)
{
    UNLESS(write_error(fd));
    return REAL(write)(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    UNLESS(write_error(fd));
    return REAL(pwrite)(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    UNLESS(write_error(fd));
    return REAL(pwrite64)(fd, data, size, at);
}

ssize_t read(int fd, void *data, size_t size)
{
    UNLESS(read_error(fd));
    return REAL(read)(fd, data, size);
}

ssize_t pread(int fd, void *data, size_t size, off_t at)
{
    UNLESS(read_error(fd));
    return REAL(pread)(fd, data, size, at);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at)
{
    UNLESS(read_error(fd));
    return REAL(pread64)(fd, data, size, at);
}

int fsync(int fd)
{
    UNLESS(sync_error(fd));
    return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    UNLESS(sync_error(fd));
    return REAL(fdatasync)(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int status = REAL(clock_gettime)(clock, now);
    if (status == 0 && on && clock == CLOCK_REALTIME)
        now->tv_sec += on->clock_seconds;
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int status = REAL(gettimeofday)(now, zone);
    if (status == 0 && on)
        now->tv_sec += on->clock_seconds;
    return status;
}

time_t time(time_t *into)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into)
        *into = now.tv_sec;
    return now.tv_sec;
}
