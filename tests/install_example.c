// SPDX-License-Identifier: MIT
// A program of somebody else: built with nothing but pkg-config and the installed header, continues
// a text with the model of a run folder. tests/install.sh builds and runs it; the README shows it.
#include <stdio.h>
#include <vkmoe.h>

static int generate(struct vkmoe_session *session, struct vkmoe_model *model)
{
    const struct vkmoe_sampling greedy = {0};
    uint32_t ids[8];
    const size_t count = vkmoe_model_encode(model, "int main", ids, 8);
    bool ok = count == 8 && vkmoe_session_feed(session, ids, (uint32_t)count);
    for (int i = 0; ok && i < 4; i++) {
        uint32_t id;
        ok = vkmoe_session_sample(session, &greedy, &id) && vkmoe_session_feed(session, &id, 1);
        if (ok) printf("%u ", id);
    }
    return ok && vkmoe_session_position(session) == 12;
}

int main(int argc, char **argv)
{
    const struct vkmoe_device_params params = {.device = argc > 2 ? argv[2] : NULL};
    struct vkmoe_device  *device = argc > 1 ? vkmoe_device_open(&params) : NULL;
    struct vkmoe_model   *model = device ? vkmoe_model_open(device, argv[1]) : NULL;
    struct vkmoe_session *session = model ? vkmoe_session_open(model, 16) : NULL;
    const int ok = session && generate(session, model);
    vkmoe_session_close(&session);
    vkmoe_model_close(&model);
    vkmoe_device_close(&device);
    puts(ok ? "ok" : "failed");
    return !ok;
}
