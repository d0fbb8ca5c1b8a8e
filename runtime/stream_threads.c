// SPDX-License-Identifier: MIT
// The stream's pool of threads: each takes a part, does it with the system's blocking calls, gives
// it back.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/log.h"
#include "runtime/os.h"
#include "runtime/stream_queue.h"

// Signals are the main thread's.
bool stream_threads_start(struct stream_own *own, uint32_t count, void *(*run)(void *own))
{
    sigset_t all, before;
    int      error = 0;
    own->thread = os_alloc(count * sizeof *own->thread);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (own->threads < count && !error) {
        error = pthread_create(&own->thread[own->threads], NULL, run, own);
        own->threads += !error;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error && !own->threads) { // fewer than wanted do as well
        log_error("stream: no thread can be started: %s; end other programs", strerror(error));
        return false;
    }
    return true;
}

void stream_threads_join(struct stream_own *own)
{
    pthread_mutex_lock(&own->lock);
    own->ending = true;
    pthread_cond_broadcast(&own->work);
    pthread_mutex_unlock(&own->lock);
    for (uint32_t i = 0; i < own->threads; i++)
        pthread_join(own->thread[i], NULL);
    free(own->thread);
    own->thread = NULL;
    own->threads = 0;
}

void stream_do_part(const struct os_file *file, bool write, int fd, struct stream_part *part)
{
    const bool ok = write ? os_file_write_all(file, fd, part->piece->iov_base, part->bytes,
                                              part->offset, &part->done)
                          : os_file_read_pieces(file, fd, part->piece, part->pieces, part->offset,
                                                &part->done);
    part->error = ok ? 0 : errno;
}

void *stream_threads_run(void *stream)
{
    struct stream_own *own = stream;
    struct stream_part part;
    pthread_mutex_lock(&own->lock);
    for (;;) {
        if (stream_take(own, &part)) {
            const bool write = part.item->request.kind == STREAM_WRITE;
            const int  fd = part.item->request.fd;
            pthread_mutex_unlock(&own->lock);
            stream_do_part(own->file, write, fd, &part);
            pthread_mutex_lock(&own->lock);
            stream_give(own, &part);
        } else if (own->ending) {
            break;
        } else {
            pthread_cond_wait(&own->work, &own->lock);
        }
    }
    pthread_mutex_unlock(&own->lock);
    return NULL;
}
