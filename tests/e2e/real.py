"""A script that really runs, for a second and saying so; and its track, on which it reports its own score."""

from tests.e2e import world

REAL_SCRIPT = world.SCRIPT.replace(
    "    print(KNOBS)\n",
    """    import os, random, time
    with open("executions", "a") as file:
        file.write("once\\n")
    for step in range(8):
        print(f"step:{step}/8 train_loss:3.0", flush=True)
        time.sleep(0.1)
    noise = random.Random(os.environ["SEED"] + str(KNOBS)).gauss(0, 0.01)
    print(f"val_bpb: {2.0 - KNOBS['width'] / 20 + noise:.6f}")
    print("Total submission size int8+zlib: 900 bytes")
""",
)
REAL_TRACK = (
    world.TRACK.replace('trust = "measured"', 'trust = "reported"')
    .replace('score = ["{python}", "{script}", "score"]\n', "")
    .replace('artifact = "final_model.bin"\n', "")
)
