// SPDX-License-Identifier: MIT
// checkpoint.h: what a run folder holds after each way in which saving can end: well, with a full
// disk, with kill -9 at any moment, with a second process. The last committed checkpoint is always
// whole.
#include "tests/unit.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "src/checkpoint.h"
#include "src/weights.h"

static struct model *make(void)
{
    static const char *const set[] = {"vocab_size=300", "hidden_size=64", "num_attention_heads=2",
                                      "num_experts=4", "seq_len=16"};
    struct config config;
    assert_true(config_read(&config, NULL, set, COUNT_OF(set)));
    return model_create(&config, 1 << 30);
}

// All weights of step N are N: what is loaded says which step it is, and whether it is whole.
static bool get(void *user, const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                float *values)
{
    (void)tensor, (void)begin;
    for (uint64_t i = 0; i < count; i++) values[i] = (float)*(const uint64_t *)user;
    return true;
}

static bool put(void *user, const struct model_tensor *tensor, uint64_t begin, uint64_t count,
                const float *values)
{
    (void)tensor, (void)begin;
    for (uint64_t i = 0; i < count; i++)
        if (values[i] != (float)*(const uint64_t *)user) return false;
    return true;
}

static bool write_files(struct checkpoint *checkpoint, const struct model *model, uint64_t step)
{
    char state[64];
    snprintf(state, sizeof state, "{\"step\": %llu}\n", (unsigned long long)step);
    return weights_save(model, checkpoint_path(checkpoint, "model.safetensors"), get, &step, NULL,
                        0) &&
           weights_save(model, checkpoint_path(checkpoint, "optimizer.safetensors"), get, &step,
                        NULL, 0) &&
           checkpoint_write(checkpoint, "state.json", state);
}

static bool save(struct checkpoint *checkpoint, const struct model *model, uint64_t step)
{
    return checkpoint_begin(checkpoint, step) && write_files(checkpoint, model, step) &&
           checkpoint_commit(checkpoint);
}

// The newest checkpoint is whole and consistent with itself; returns its step.
static uint64_t assert_whole(const char *dir, const struct model *model)
{
    struct checkpoint_found found;
    char path[4200], wanted[64];
    assert_true(checkpoint_find(dir, &found));
    snprintf(path, sizeof path, "%s/optimizer.safetensors", found.path);
    assert_true(weights_load(model, path, put, &found.step));
    assert_true(weights_load(model, found.path, put, &found.step));
    snprintf(path, sizeof path, "%s/state.json", found.path);
    snprintf(wanted, sizeof wanted, "{\"step\": %llu}\n", (unsigned long long)found.step);
    char *state = unit_read(path, NULL);
    assert_string_equal(state, wanted);
    free(state);
    return found.step;
}

static void assert_holds(const char *dir, const struct model *model, uint64_t step)
{
    assert_int_equal(assert_whole(dir, model), step);
    assert_true(weights_load(model, dir, put, &step)); // DIR/model.safetensors
}

static int entries(const char *dir, const char *begin)
{
    char command[8300], text[16] = "";
    snprintf(command, sizeof command, "ls -A '%s' | grep -c '^%s'", dir, begin);
    FILE *pipe = popen(command, "r");
    assert_non_null(fgets(text, sizeof text, pipe));
    pclose(pipe);
    return atoi(text);
}

static void the_newest_checkpoint_replaces_the_older(void **state)
{
    (void)state;
    struct model *model = make();
    const char *dir = unit_path("runs/one");
    struct checkpoint_found found;
    assert_false(checkpoint_find(dir, &found));
    struct checkpoint *checkpoint = checkpoint_open(dir);
    assert_non_null(checkpoint);
    assert_false(checkpoint_find(dir, &found));
    assert_true(checkpoint_run_write(checkpoint, "config.json", "{}\n"));
    assert_true(
        checkpoint_run_copy(checkpoint, unit_write_text("t.json", "tokens"), "tokenizer.json"));
    char *text = unit_read(unit_path("runs/one/tokenizer.json"), NULL);
    assert_string_equal(text, "tokens");
    free(text);
    const uint64_t steps[] = {5, 10, 10, 123456789};
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        assert_true(save(checkpoint, model, steps[i]));
        assert_holds(dir, model, steps[i]);
        assert_int_equal(entries(dir, "checkpoint"), 1);
    }
    struct stat a, b; // one file under two names, not a copy
    assert_int_equal(stat(unit_path("runs/one/model.safetensors"), &a), 0);
    assert_int_equal(stat(unit_path("runs/one/checkpoint-123456789/model.safetensors"), &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    assert_false(checkpoint_begin(checkpoint, 99));
    unit_assert_line("a checkpoint of step 123456789, newer than step 99", "choose another folder");
    checkpoint_close(&checkpoint);
    assert_null(checkpoint);
    checkpoint_close(&checkpoint);
    checkpoint = checkpoint_open(dir);
    assert_non_null(checkpoint);
    assert_holds(dir, model, 123456789);
    assert_true(checkpoint_begin(checkpoint, 200000000)); // given up, by hand and by closing
    assert_true(write_files(checkpoint, model, 200000000));
    checkpoint_abort(checkpoint);
    assert_int_equal(entries(dir, "checkpoint"), 1);
    assert_true(checkpoint_begin(checkpoint, 200000001));
    checkpoint_close(&checkpoint);
    assert_int_equal(entries(dir, "checkpoint"), 1);
    assert_holds(dir, model, 123456789);
    model_destroy(&model);
    unit_assert_silent();
}

static void as_many_as_wanted_are_kept(void **state)
{
    (void)state;
    struct model *model = make();
    const char *dir = unit_path("runs/some");
    uint64_t step[8];
    assert_int_equal(checkpoint_list(dir, step, 8), 0);
    struct checkpoint *checkpoint = checkpoint_open_keeping(dir, 3);
    for (uint64_t s = 1; s <= 5; s++) assert_true(save(checkpoint, model, s * s * s));
    assert_true(save(checkpoint, model, 125)); // again
    assert_int_equal(checkpoint_list(dir, step, 8), 3);
    assert_true(step[0] == 27 && step[1] == 64 && step[2] == 125);
    assert_holds(dir, model, 125);
    checkpoint_close(&checkpoint);
    checkpoint = checkpoint_open_keeping(dir, 0); // all
    assert_true(save(checkpoint, model, 200));
    assert_int_equal(checkpoint_list(dir, step, 8), 4);
    assert_int_equal(checkpoint_list(dir, step, 2), 2);
    checkpoint_close(&checkpoint);
    checkpoint = checkpoint_open(dir); // the newest
    assert_int_equal(checkpoint_list(dir, step, 8), 1);
    assert_int_equal(step[0], 200);
    checkpoint_close(&checkpoint);
    model_destroy(&model);
    unit_assert_silent();
}

static void a_second_process_is_refused(void **state)
{
    (void)state;
    const char *dir = unit_path("run");
    struct checkpoint *checkpoint = checkpoint_open(dir);
    assert_non_null(checkpoint);
    assert_null(checkpoint_open(dir)); // flock holds between two opens of one process as well
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    unit_assert_line("in use by", pid);
    checkpoint_close(&checkpoint);
    checkpoint = checkpoint_open(dir);
    assert_non_null(checkpoint);
    checkpoint_close(&checkpoint);
    unit_assert_silent();
}

static void unusable_folders_are_refused(void **state)
{
    (void)state;
    assert_null(checkpoint_open("/proc/vkmoe/run"));
    unit_assert_line("/proc/vkmoe", "cannot make the folder");
    unit_write_text("file", "");
    assert_null(checkpoint_open(unit_path("file")));
    unit_assert_line("file", "cannot make the folder");
    struct checkpoint_found found;
    assert_false(checkpoint_find(unit_path("none"), &found));
    unit_assert_silent();
}

static void touch_folder(const char *name, const char *file)
{
    char path[600];
    assert_int_equal(mkdir(unit_path(name), 0777), 0);
    snprintf(path, sizeof path, "%s/%s", name, file);
    unit_write_text(path, "half");
}

// Every state that a crash between two system calls of a commit can leave.
static void what_a_crash_left_is_cleaned_up(void **state)
{
    (void)state;
    struct model *model = make();
    const char *const dir = unit_folder;
    struct checkpoint *checkpoint = checkpoint_open(dir);
    assert_true(save(checkpoint, model, 7));
    checkpoint_close(&checkpoint);
    // while writing: an unfinished folder, files beside
    touch_folder("checkpoint.tmp", "model.safetensors");
    unit_write_text("model.safetensors.tmp-123", "half");
    unit_write_text("config.json.tmp-123", "half");
    unit_write_text("mine.tmp-123", "not ours");
    touch_folder("checkpoint-best", "model.safetensors"); // not ours either
    assert_holds(dir, model, 7);
    checkpoint = checkpoint_open(dir);
    assert_non_null(checkpoint);
    assert_holds(dir, model, 7);
    assert_int_not_equal(access(unit_path("checkpoint.tmp"), F_OK), 0);
    assert_int_not_equal(access(unit_path("model.safetensors.tmp-123"), F_OK), 0);
    assert_int_not_equal(access(unit_path("config.json.tmp-123"), F_OK), 0);
    assert_int_equal(access(unit_path("mine.tmp-123"), F_OK), 0);
    assert_int_equal(access(unit_path("checkpoint-best/model.safetensors"), F_OK), 0);
    // behind the rename, before the second name and the removal
    assert_true(checkpoint_begin(checkpoint, 9));
    assert_true(write_files(checkpoint, model, 9));
    assert_int_equal(rename(unit_path("checkpoint.tmp"), unit_path("checkpoint-00000009")), 0);
    checkpoint_close(&checkpoint);
    assert_int_equal(assert_whole(dir, model), 9);
    checkpoint = checkpoint_open(dir);
    assert_non_null(checkpoint);
    assert_holds(dir, model, 9);
    assert_int_not_equal(access(unit_path("checkpoint-00000007"), F_OK), 0);
    checkpoint_close(&checkpoint);
    // the same step again: the old one stood aside, the new one had not come yet
    assert_int_equal(rename(unit_path("checkpoint-00000009"), unit_path("checkpoint-00000009.old")),
                     0);
    assert_int_equal(assert_whole(dir, model), 9);
    checkpoint = checkpoint_open(dir);
    assert_non_null(checkpoint);
    assert_int_equal(access(unit_path("checkpoint-00000009/state.json"), F_OK), 0);
    assert_holds(dir, model, 9);
    checkpoint_close(&checkpoint);
    model_destroy(&model);
    unit_assert_silent();
}

// A child saves in a loop and is killed at some moment, again and again.
static void kill_9_leaves_a_whole_checkpoint(void **state)
{
    (void)state;
    struct model *model = make();
    const char *const dir = unit_folder;
    uint64_t before = 1, deaths_unfinished = 0;
    struct checkpoint *checkpoint = checkpoint_open(dir);
    assert_true(save(checkpoint, model, before));
    checkpoint_close(&checkpoint);
    for (uint64_t round = 0; round < 25; round++) {
        int ready[2];
        assert_int_equal(pipe(ready), 0);
        const pid_t child = fork();
        if (child == 0) {
            checkpoint = checkpoint_open(dir);
            uint64_t step = before + 1;
            if (!checkpoint || write(ready[1], "x", 1) != 1) _exit(1);
            while (save(checkpoint, model, step)) step += step % 2; // every other step twice
            _exit(1);
        }
        char byte;
        assert_int_equal(read(ready[0], &byte, 1), 1);
        usleep((useconds_t)rng_below(1, 2, round, 20000));
        assert_int_equal(kill(child, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status)); // it had not failed before
        close(ready[0]), close(ready[1]);
        deaths_unfinished += access(unit_path("checkpoint.tmp"), F_OK) == 0;
        const uint64_t step =
            assert_whole(dir, model); // what a reader sees, before anything is cleaned up
        assert_true(step >= before);
        before = step;
    }
    checkpoint = checkpoint_open(dir);
    assert_non_null(checkpoint);
    assert_holds(dir, model, before);
    assert_int_equal(entries(dir, "checkpoint"), 1);
    checkpoint_close(&checkpoint);
    assert_true(deaths_unfinished > 0); // else nothing was tried
    model_destroy(&model);
    unit_assert_silent();
}

static void assert_full_disk_keeps_the_old(const char *dir, const struct model *model,
                                           struct checkpoint *checkpoint, const char *reason)
{
    assert_true(checkpoint_begin(checkpoint, 9));
    const bool written = write_files(checkpoint, model, 9) && checkpoint_commit(checkpoint);
    assert_false(written);
    unit_assert_line("checkpoint.tmp", reason);
    checkpoint_abort(checkpoint);
    assert_int_equal(entries(dir, "checkpoint"), 1);
}

static void files_that_may_not_grow_keep_the_old(void **state)
{
    (void)state;
    struct model *model = make();
    struct checkpoint *checkpoint = checkpoint_open(unit_folder);
    struct rlimit old, small;
    assert_true(save(checkpoint, model, 7));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 100000; // less than model.safetensors
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_full_disk_keeps_the_old(unit_folder, model, checkpoint, "File too large");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_holds(unit_folder, model, 7);
    assert_true(save(checkpoint, model, 9));
    assert_holds(unit_folder, model, 9);
    checkpoint_close(&checkpoint);
    model_destroy(&model);
}

// The same with a disk that is really full, where a small file system can be mounted.
static void a_full_disk_keeps_the_old(void **state)
{
    (void)state;
    const char *dir = unit_path("disk");
    assert_int_equal(mkdir(dir, 0777), 0);
    if (mount("none", dir, "tmpfs", 0, "size=7m") != 0) skip(); // three files fit, four do not
    struct model *model = make(); // about 2 MB, as its moments
    struct checkpoint *checkpoint = checkpoint_open(dir);
    const bool saved = checkpoint && save(checkpoint, model, 7);
    if (saved)
        assert_full_disk_keeps_the_old(dir, model, checkpoint, "no space left on the device");
    if (saved) assert_holds(dir, model, 7);
    checkpoint_close(&checkpoint);
    umount(dir);
    assert_true(saved);
    model_destroy(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(the_newest_checkpoint_replaces_the_older),
        UNIT(as_many_as_wanted_are_kept),
        UNIT(a_second_process_is_refused),
        UNIT(unusable_folders_are_refused),
        UNIT(what_a_crash_left_is_cleaned_up),
        UNIT(kill_9_leaves_a_whole_checkpoint),
        UNIT(files_that_may_not_grow_keep_the_old),
        UNIT(a_full_disk_keeps_the_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
