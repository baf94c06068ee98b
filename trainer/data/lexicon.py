"""The words of `synth` stories.

Data only. Within one list no word occurs twice; a word is letters alone, so that where it ends is never in
doubt.
"""

TOPICS = ("sea", "forest", "market", "mountain", "river", "castle", "desert", "garden")
PLACES = (
    "harbour lighthouse quay island reef tavern cove shipyard",
    "clearing hollow lodge thicket ridge sawmill den grove",
    "square bakery stall fountain warehouse arcade forge gate",
    "summit cave hut pass glacier quarry shrine valley",
    "bridge ferry mill weir bank marsh dam ford",
    "tower hall cellar courtyard armoury chapel kitchen stable",
    "oasis dune camp well ruin canyon caravan tent",
    "orchard greenhouse pond terrace arbour shed wall meadow",
)
THINGS = (
    "net anchor compass oar lantern barrel rope chart",
    "axe basket bow horn trap cloak saddle flute",
    "ledger purse scale loaf ribbon kettle carpet jar",
    "pick helmet torch boot sledge flask hammer bell",
    "rod paddle bucket raft sack whistle bottle pole",
    "sword shield crown key goblet banner candle letter",
    "turban dagger drum waterskin mirror scroll blanket coin",
    "spade rake vase glove seedling ladder hose trowel",
)
SIGHTS = (
    "wave storm gull whale tide sail mist shoal",
    "deer owl oak fern fox path shadow moss",
    "crowd merchant parade thief song smoke bargain juggler",
    "eagle snow cloud goat avalanche star cliff echo",
    "heron flood trout reed otter current frog willow",
    "knight feast queen ghost guard duel moat throne",
    "mirage sun scorpion camel sandstorm vulture stranger palm",
    "rose bee hedge butterfly gardener statue rain vine",
)
TRADES = (
    "sailor hunter baker miner ferryman squire trader gardener cook smith weaver teacher doctor painter soldier judge"
)
ADJECTIVES = (
    "plain small red broken heavy strange bright quiet golden cold narrow wooden bare hidden silver wet "
    "crooked famous gentle dusty black hollow noble cheap round fragile green warm rusty clever giant "
    "thin purple smooth sacred lonely sharp torn pale sweet frozen proud double loud muddy simple woven "
    "bitter blue weathered velvet cracked swift tall tiny striped marble soft wild copper foreign faded "
    "leaden grey"
)
ADVERBS = (
    "again slowly today quickly alone quietly together early gladly carefully often soon calmly bravely "
    "late twice sadly proudly secretly rarely boldly kindly suddenly lazily firmly eagerly blindly "
    "wisely angrily warmly nervously somehow tonight politely sternly badly playfully rudely silently "
    "grimly cheerfully everywhere openly hastily neatly tenderly clumsily merrily solemnly fiercely "
    "honestly patiently foolishly outside sideways vainly weekly wearily coldly tomorrow daily freely "
    "loudly finally"
)
REFRAIN = (
    "amber winter harvest echoes morning falling thunder candles silver journey stranger waking ashes "
    "morrow singing embers hollow crimson turning evening promise whisper meadows burning silence "
    "drifting nightfall wander rising forgotten homeward lanterns"
)
VERBS = {
    "go": "walked ran rode crept hurried marched wandered rushed limped travelled returned strolled",
    "take": "took stole borrowed bought snatched won seized begged grabbed inherited received wrested",
    "give": "gave sold lent offered handed threw passed brought sent loaned surrendered entrusted",
    "tell": "told asked warned reminded taught questioned informed consulted teased lectured pestered bored",
    "see": "saw watched noticed admired feared heard followed ignored studied spotted hated loved",
    "make": "made drew carved painted built described imagined invented mended designed sketched sewed",
    "sing": "sang hummed whispered repeated chanted shouted",
    "stay": "stayed waited slept rested worked hid lingered sat dreamed camped",
}
CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"
