/* Preloaded: calls on files below one folder fail, write less than asked for, or end the process; the clock jumps back;
 * locks are not honoured. What happens is told by a block of shared memory (faults.py), which KILL_CONTROL names.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, OPEN = 2, SYNC = 4, RENAME = 8, MKDIR = 16, ALLOCATE = 32, TRUNCATE = 64, UNLINK = 128, LOCK = 256,
       READ = 512 };
enum { FAIL = 1, SHORT = 2, SIGNAL = 3, PRETEND = 4 };

struct control {
  int active, action, classes, number; /* number: errno, or a signal */
  long skip, count, fired, back;       /* count: -1 for ever; back: seconds of the clock */
  int busy;
  char prefix[256], call[16], path[512];
};
static struct control *control;

void faults_attach(const char *path) {
  int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
  if (file < 0) return;
  void *found = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  syscall(SYS_close, file);
  control = found == MAP_FAILED ? NULL : found;
}

__attribute__((constructor)) static void attach(void) {
  const char *path = getenv("KILL_CONTROL");
  if (path) faults_attach(path);
}

static void copy(char *to, const char *from, size_t room) {
  size_t length = strnlen(from, room - 1);
  memcpy(to, from, length);
  to[length] = 0;
}

/* What is to happen to this call: 0 for nothing. */
static int strike(int class, const char *call, const char *path) {
  if (!control || !control->active || !(control->classes & class) || !path) return 0;
  if (strncmp(path, control->prefix, strlen(control->prefix))) return 0;
  while (__sync_lock_test_and_set(&control->busy, 1)) syscall(SYS_sched_yield);
  int action = 0;
  if (control->active && control->skip-- <= 0 && control->count != 0) {
    action = control->action;
    if (control->count > 0 && --control->count == 0) control->active = 0;
    if (control->fired++ == 0) {
      copy(control->call, call, sizeof control->call);
      copy(control->path, path, sizeof control->path);
    }
  }
  __sync_lock_release(&control->busy);
  if (action == SIGNAL) {
    int number = control->number;
    syscall(SYS_kill, getpid(), number);
    return 0;
  }
  if (action == FAIL) errno = control->number;
  return action;
}

static int strike_at(int class, const char *call, int folder, const char *path) {
  if (!control || !control->active || !(control->classes & class) || !path) return 0;
  char whole[PATH_MAX * 2];
  ssize_t length = 0;
  if (path[0] != '/') {
    char link[64];
    if (folder == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else {
      char digits[16]; int n = 0, number = folder;
      do digits[n++] = (char)('0' + number % 10); while (number /= 10);
      strcpy(link, "/proc/self/fd/");
      char *end = link + strlen(link);
      while (n) *end++ = digits[--n];
      *end = 0;
    }
    length = syscall(SYS_readlink, link, whole, PATH_MAX);
    if (length < 0) return 0;
    if (path[0]) whole[length++] = '/';
  }
  strncpy(whole + length, path, PATH_MAX - 1);
  whole[length + PATH_MAX - 1] = 0;
  return strike(class, call, whole);
}

static int strike_fd(int class, const char *call, int file) {
  int kept = errno, action = strike_at(class, call, file, "");
  if (action != FAIL) errno = kept;
  return action;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define HALF(size) ((size) > 1 ? (size) / 2 : (size))

ssize_t write(int file, const void *data, size_t size) {
  REAL(write);
  int action = strike_fd(WRITE, "write", file);
  return action == FAIL ? -1 : real(file, data, action == SHORT ? HALF(size) : size);
}
#define POSITIONED(name, type) \
  ssize_t name(int file, const void *data, size_t size, type offset) { \
    REAL(name); \
    int action = strike_fd(WRITE, #name, file); \
    return action == FAIL ? -1 : real(file, data, action == SHORT ? HALF(size) : size, offset); \
  }
POSITIONED(pwrite, off_t)
POSITIONED(pwrite64, off64_t)
ssize_t writev(int file, const struct iovec *parts, int count) {
  REAL(writev);
  int action = strike_fd(WRITE, "writev", file);
  return action == FAIL ? -1 : real(file, parts, action == SHORT ? HALF(count) : count);
}
ssize_t read(int file, void *data, size_t size) {
  REAL(read);
  int action = strike_fd(READ, "read", file);
  return action == FAIL ? -1 : real(file, data, action == SHORT ? HALF(size) : size);
}
#define READ_AT(name, type) \
  ssize_t name(int file, void *data, size_t size, type offset) { \
    REAL(name); \
    int action = strike_fd(READ, #name, file); \
    return action == FAIL ? -1 : real(file, data, action == SHORT ? HALF(size) : size, offset); \
  }
READ_AT(pread, off_t)
READ_AT(pread64, off64_t)

#define WRITES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT))
#define OPENS(name) \
  int name(const char *path, int flags, ...) { \
    REAL(name); \
    va_list more; va_start(more, flags); \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
    va_end(more); \
    if (WRITES(flags) && strike_at(OPEN, #name, AT_FDCWD, path) == FAIL) return -1; \
    return real(path, flags, mode); \
  }
OPENS(open)
OPENS(open64)
#define OPENS_AT(name) \
  int name(int folder, const char *path, int flags, ...) { \
    REAL(name); \
    va_list more; va_start(more, flags); \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
    va_end(more); \
    if (WRITES(flags) && strike_at(OPEN, #name, folder, path) == FAIL) return -1; \
    return real(folder, path, flags, mode); \
  }
OPENS_AT(openat)
OPENS_AT(openat64)

int fsync(int file) { REAL(fsync); return strike_fd(SYNC, "fsync", file) == FAIL ? -1 : real(file); }
int fdatasync(int file) { REAL(fdatasync); return strike_fd(SYNC, "fdatasync", file) == FAIL ? -1 : real(file); }
int rename(const char *old, const char *new) {
  REAL(rename);
  return strike_at(RENAME, "rename", AT_FDCWD, new) == FAIL ? -1 : real(old, new);
}
int renameat(int from, const char *old, int to, const char *new) {
  REAL(renameat);
  return strike_at(RENAME, "renameat", to, new) == FAIL ? -1 : real(from, old, to, new);
}
int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  return strike_at(MKDIR, "mkdir", AT_FDCWD, path) == FAIL ? -1 : real(path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
  REAL(mkdirat);
  return strike_at(MKDIR, "mkdirat", folder, path) == FAIL ? -1 : real(folder, path, mode);
}
#define ALLOCATES(name, type) \
  int name(int file, type offset, type size) { \
    REAL(name); \
    return strike_fd(ALLOCATE, "fallocate", file) == FAIL ? control->number : real(file, offset, size); \
  }
ALLOCATES(posix_fallocate, off_t)
ALLOCATES(posix_fallocate64, off64_t)
#define TRUNCATES(name, type) \
  int name(int file, type size) { \
    REAL(name); \
    return strike_fd(TRUNCATE, "ftruncate", file) == FAIL ? -1 : real(file, size); \
  }
TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)
int unlink(const char *path) {
  REAL(unlink);
  return strike_at(UNLINK, "unlink", AT_FDCWD, path) == FAIL ? -1 : real(path);
}
int unlinkat(int folder, const char *path, int flags) {
  REAL(unlinkat);
  return strike_at(UNLINK, "unlinkat", folder, path) == FAIL ? -1 : real(folder, path, flags);
}
int flock(int file, int operation) {
  REAL(flock);
  int action = strike_fd(LOCK, "flock", file);
  return action == FAIL ? -1 : action == PRETEND ? 0 : real(file, operation);
}

static long behind(void) { return control ? control->back : 0; }
int clock_gettime(clockid_t clock, struct timespec *now) {
  REAL(clock_gettime);
  int result = real(clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec -= behind();
  return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  REAL(gettimeofday);
  int result = real(now, zone);
  if (result == 0) now->tv_sec -= behind();
  return result;
}
time_t time(time_t *now) {
  REAL(time);
  time_t found = real(NULL) - behind();
  if (now) *now = found;
  return found;
}
/* Waits until a time of that clock: the kernel's has not jumped, and would end them at once. */
long syscall(long number, ...) {
  REAL(syscall);
  long given[6];
  va_list more; va_start(more, number);
  for (int n = 0; n < 6; n++) given[n] = va_arg(more, long);
  va_end(more);
  struct timespec until;
  if (number == SYS_futex && (given[1] & FUTEX_CLOCK_REALTIME) && given[3] && behind()) {
    until = *(struct timespec *)given[3];
    until.tv_sec += behind();
    given[3] = (long)&until;
  }
  return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
