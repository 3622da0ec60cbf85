/* Preloaded into the processes under test: a clock that somebody sets, a disk that is slow.
 *
 * The file that PORTICO_FAULTS names has three numbers, which the test changes as it likes: how far the date
 * is off, and how long a sync and a write of a file at a place take more than they do. All in nanoseconds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;
static const volatile int64_t *faults; /* date, sync, write */

__attribute__((constructor)) static void open_faults(void) {
    const char *name = getenv("PORTICO_FAULTS");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, 3 * sizeof *faults, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) faults = found;
    close(file);
}

static int64_t fault(int which) { return faults ? faults[which] : 0; }

static void wait_for(int64_t time) {
    struct timespec left = {time / SECOND, time % SECOND};
    while (time > 0 && nanosleep(&left, &left)) {}
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t time = now->tv_sec * SECOND + now->tv_nsec + fault(0);
        now->tv_sec = time / SECOND;
        now->tv_nsec = time % SECOND;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return result;
}

time_t time(time_t *told) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (told) *told = exact.tv_sec;
    return exact.tv_sec;
}

int fdatasync(int file) {
    wait_for(fault(1));
    return syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    wait_for(fault(1));
    return syscall(SYS_fsync, file);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t place) {
    wait_for(fault(2));
    return syscall(SYS_pwrite64, file, data, size, place);
}
