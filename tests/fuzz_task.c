// SPDX-License-Identifier: MIT
// The readers of evaluation tasks against damaged files. What must hold for any input, in any
// format: no access outside, one log line if the file is refused and none if it is taken; in a
// taken one every item has its choices, none of them empty, and its answer among them, or something
// to compare with.
#define FUZZ_NAME "fuzz_task"
#define FUZZ_WORDS                                                                              \
    "\"good\"", "\"choices\"", "\"answer\"", "\"answerKey\"", "\"endings\"", "\"label\"",          \
        "\"prompt\"", "\"regex\"", "\"question\"", "\"#### 7\"", "(a", "[title]", "\"\"",        \
        ",A\n",                                                                               \
        "\"a\",\"b\"", "\xff", "\"dev\":true", "\"stop\":[\"x\"]", "PAR1"
#include "tests/fuzz.h"

#include "src/task.h"

static void check_item(const struct task *task, uint64_t index)
{
    const struct task_item *item = &task->item[index];
    struct bytes prompt = {0};
    require(item->line > 0, "no line");
    if (item->kind == TASK_GENERATE) {
        require(item->match == TASK_SAMPLE || (item->wanted && *item->wanted), "nothing wanted");
        require((item->match == TASK_REGEX) == (item->pattern != NULL), "no expression");
        task_matches(item, "a 12,345.5 #### -3. b", 21);
        require(task_stop(item, "x\n\nQuestion:", 12) <= 12, "a stop beyond the text");
    } else {
        require(item->choice_count >= 1 && item->choice_count <= TASK_MOST_CHOICES,
                "a wrong number of choices");
        require(item->answer < item->choice_count, "the answer is no choice");
        for (uint32_t i = 0; i < item->choice_count; i++)
            require(item->choice[i] && *item->choice[i], "an empty choice");
    }
    require(task_prompt(task, index, 0, 0, &prompt), "no prompt");
    bytes_free(&prompt);
}

// Returns 1 where the file was taken in some format (libFuzzer wants 0).
static int try_one(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"fuzz.csv", "fuzz.jsonl"};
    int taken = 0;
    char *exact = fuzz_exact(data, size);
    for (int f = 0; f < TASK_FORMATS; f++) {
        lines = 0;
        struct task *task = task_parse(names[f % 2 ? 1 : size % 2], exact, size,
                                       (enum task_format)f);
        require(lines == (task ? 0 : 1), "not one line for a refused file, none for a good one");
        for (uint64_t i = 0; task && i < task->count; i++) check_item(task, i);
        taken |= task && f != TASK_PLAIN;
        task_close(&task);
    }
    free(exact);
    return taken;
}

#ifndef VKMOE_LIBFUZZER

static const char *const files[] = {
    "{\"good\":\"a b\",\"bad\":\"b\",\"prompt\":\"p\",\"id\":3,\"dev\":true}\n"
    "{\"prompt\":\"p\",\"choices\":[\"a\",\"b\"],\"answer\":1,\"domain\":\"d\"}\n"
    "{\"prompt\":\"p\",\"regex\":\"a+(b|c)\",\"stop\":[\"x\"],\"max_tokens\":9}\n"
    "{\"kind\":\"generate\",\"prompt\":\"p\",\"answer\":\"q\"}\n{\"text\":\"\\u00e9t\\u00e9\"}\n",
    "\"What is 1, or 2?\",0,1,2,3,B\n\"a \"\"b\"\"\nc, d\",x,y,\"z,\",w,D\r\n",
    "{\"id\":\"Q\",\"question\":{\"stem\":\"why\",\"choices\":[{\"text\":\"a\",\"label\":\"A\"},"
    "{\"text\":\"b\",\"label\":\"B\"}]},\"answerKey\":\"B\"}\n",
    "{\"question\":\"why\",\"choices\":{\"text\":[\"a\",\"b\"],\"label\":[\"1\",\"2\"]},"
    "\"answerKey\":\"2\"}\n",
    "{\"ind\":4,\"activity_label\":\"act\",\"ctx\":\"[header] c [title] d\",\"endings\":[\"e  f\","
    "\"g [x] h\"],\"label\":\"1\"}\n",
    "{\"question\":\"q\",\"answer\":\"s <<1+1=2>>\\n#### 1,200\"}\n",
    "{\"task_id\":\"H/0\",\"prompt\":\"def f():\\n\",\"entry_point\":\"f\",\"test\":\"\"}\n",
    "{\"question\":\"q\",\"choices\":[\"a\",\"b\",\"c\"],\"answer\":2,\"subject\":\"s t\"}\n",
};

int main(int argc, char **argv)
{
    const struct fuzz fuzz = {"files", "taken", COUNT_OF(files), 3, 1, .text = files,
                              .try_one = try_one};
    return fuzz_run(&fuzz, argc, argv);
}

#endif
